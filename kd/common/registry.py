"""What a config calls by a name: a file of ours, an entry point of an installed package, or any module."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

from kd.common.errors import UserError

GROUPS = ("kd.methods", "kd.sources", "kd.backbones", "kd.modalities")


class Registry:
    """Modules by name.

    A name is that of a file in `package`, or that of an entry point of an installed package in `group`. A name with a
    dot is the full name of any module that can be imported, such as `my_project.clips`. All of them have the same
    form, and to add a file, an entry point or a module is all that it takes.

    Attributes:
        package: ours.
        group: of entry points; None: other packages have no part in it.
        defines: names that such a module must define, and of what type each must be, or a subclass of.
        others: files in the package that are no members.
    """

    def __init__(
        self,
        package: str,
        group: str | None = None,
        defines: Mapping[str, Any] | None = None,
        others: Collection[str] = (),
    ) -> None:
        self.package, self.group, self.defines, self.others = package, group, defines or {}, frozenset(others)

    def own(self) -> list[str]:
        """The names of the files in our folder."""
        return sorted(_files(self.package) - self.others)

    def names(self) -> list[str]:
        """Our names and those of installed packages, whether or not their modules can be used."""
        return sorted({*self.own(), *self._installed()})

    def usable(self) -> list[str]:
        """The names whose modules can be used: a package that is broken must not break what does without it."""
        found = self.own()
        for name in self._installed():
            with suppress(UserError):
                self.load(name)
                found.append(name)
        return sorted(set(found))

    def knows(self, name: object) -> bool:
        """Whether it is a name of ours or of an installed package, or may be that of a module.

        Raises:
            UserError: it is that of several. This is asked of configs; jobs, which are many, take ours without looking.
        """
        if not isinstance(name, str):
            return False
        entries = self._installed().get(name, ())
        if entries and name in self.own():
            other = f"the name {name!r} is that of {self.package}.{name}, too; rename the entry point or uninstall it"
            raise UserError(f"{_named(*entries)}: {other}")
        if len(entries) > 1:
            several = (
                f"the name {name!r} is that of {len(entries)} entry points; uninstall all packages but one of them"
            )
            raise UserError(f"{_named(*entries)}: {several}")
        if entries or name in self.own():
            return True
        return "." in name and all(part.isidentifier() for part in name.split("."))

    def module(self, name: str) -> str:
        """Full name of the module that a name means."""
        if name in self.own():
            return f"{self.package}.{name}"
        (entry, *_) = self._installed().get(name, (None,))
        return name if entry is None else entry.value

    def name_of(self, module: str) -> str:
        """The name that a module has here; the reverse of `module`."""
        package, _, own = module.rpartition(".")
        if package == self.package:
            return own
        return next((name for name, (entry, *_) in self._installed().items() if entry.value == module), module)

    def package_of(self, name: str) -> str:
        """The installed package, with its version, that a name comes from; empty where it is ours or a module's."""
        return ", ".join(_package(entry) for entry in self._installed().get(name, ()))

    def stored(self, name: str) -> ModuleType:
        """The module of a name that stands in a file, which is not trusted.

        Nothing is imported for it but our own modules, and those that installed packages declare as theirs.

        Raises:
            UserError: it is none of these, and nobody here has asked for it.
        """
        known = name in self.own() or name in self._installed()
        if "." not in name and not known:
            raise UserError(f"{name!r}, expected one of {', '.join(self.names())}")
        if not known and name not in sys.modules:
            raise UserError(f"{name!r} is no module that the config of this run names")
        return self.load(name)

    def load(self, name: str) -> ModuleType:
        """The module of a name that stands in a config.

        Raises:
            UserError: a module of somebody else's cannot be imported, or is not of the form that ours have. The text
                names the entry point and its package, where there is one.
        """
        if name in self.own():
            return importlib.import_module(f"{self.package}.{name}")
        whose = self.whose(name)
        if whose != name and not name.isidentifier():
            raise UserError(f"{whose}: its name is {name!r}, expected letters, digits and underscores")
        try:
            module = importlib.import_module(self.module(name))
        except (Exception, SystemExit) as error:
            raise UserError(f"{whose}: cannot be imported: {type(error).__name__}: {error}") from error
        for defined, kind in self.defines.items():
            found = getattr(module, defined, None)
            if not (isinstance(found, kind) or (isinstance(found, type) and issubclass(found, kind))):
                what = f"{found!r} as" if hasattr(module, defined) else "no"
                raise UserError(
                    f"{whose}: has {what} {defined}, expected a {kind.__name__}, as the modules of {self.package} have"
                )
        return module

    def whose(self, name: str) -> str:
        """A name for messages: with its entry point and package, where it comes from one."""
        entries = self._installed().get(name)
        return _named(*entries) if entries else name

    def _installed(self) -> dict[str, tuple[EntryPoint, ...]]:
        return installed(self.group) if self.group else {}


@cache
def _files(package: str) -> frozenset[str]:
    """The modules that are files of a package: a process looks once, as batches, too, ask for a module by its name."""
    return frozenset(module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__))


@cache
def installed(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of installed packages in a group, by name; a name may be that of several."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in importlib.metadata.entry_points(group=group):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def versions_of(modules: Collection[str]) -> dict[str, str]:
    """Versions of the installed packages that have entry points in our groups, as far as modules come from them."""
    top = {module.partition(".")[0] for module in modules}
    entries = [entry for group in GROUPS for each in installed(group).values() for entry in each]
    found = [entry.dist for entry in entries if entry.dist is not None and entry.value.partition(".")[0] in top]
    return {each.name: each.version for each in found}


def _named(*entries: EntryPoint) -> str:
    each = [f"{_package(entry)} (entry point {entry.name} = {entry.value} in {entry.group})" for entry in entries]
    return " and ".join(each)


def _package(entry: EntryPoint) -> str:
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
