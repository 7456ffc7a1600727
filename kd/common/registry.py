"""What a config calls by a name: a file in a package of ours, or a module of somebody else's."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Collection
from types import ModuleType

from kd.common.errors import UserError


class Registry:
    """Modules by name.

    A name without a dot is that of a file in `package`; one with a dot is the full name of any module that can be
    imported, such as `my_project.clips`. Nothing has to be registered: to add something is to add a file.
    `others` are files in the package that are no members.
    """

    def __init__(self, package: str, others: Collection[str] = ()) -> None:
        self.package, self.others = package, frozenset(others)

    def names(self) -> list[str]:
        """The names of the files in this folder."""
        path = importlib.import_module(self.package).__path__
        return sorted({module.name for module in pkgutil.iter_modules(path)} - self.others)

    def module(self, name: str) -> str:
        """Full name of the module that a name means."""
        return name if "." in name else f"{self.package}.{name}"

    def knows(self, name: object) -> bool:
        """Whether it is one of our names, or may be that of another module."""
        if not isinstance(name, str):
            return False
        return name in self.names() or ("." in name and all(part.isidentifier() for part in name.split(".")))

    def stored(self, name: str) -> ModuleType:
        """The module of a name that stands in a file, which is not trusted: nothing is imported for it but our own.

        Raises:
            UserError: it is none of ours, and nobody here has asked for it.
        """
        if "." not in name and name not in self.names():
            raise UserError(f"{name!r}, expected one of {', '.join(self.names())}")
        if "." in name and name not in sys.modules:
            raise UserError(f"{name!r} is no module that the config of this run names")
        return self.load(name)

    def load(self, name: str) -> ModuleType:
        """The module of a name that stands in a config.

        Raises:
            UserError: a module of somebody else's cannot be imported.
        """
        try:
            return importlib.import_module(self.module(name))
        except Exception as error:
            if "." not in name:
                raise
            raise UserError(f"{name}: cannot be imported: {type(error).__name__}: {error}") from error
