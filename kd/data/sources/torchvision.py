"""`torchvision`: any dataset of torchvision whose samples are an image and the number of a class.

Nothing is downloaded. A change of any file in `root` or of torchvision's version is noticed. torchvision compares the
checksums of the files that it unpickles with those of the originals; LSUN is not read, as its files would be unpickled
unchecked.

Splits are, unless `splits` names arguments for each, those that the argument `train` of the class, or else `split` or
`image_set`, has: `train` or `trainval`, `val` or `valid`, `test`. Where there is no such argument, or `arguments` has
it, samples are without a split, and the `split` section draws them. Classes are called as torchvision calls them, else
by their numbers; where several have one name, the number stands behind it. Where a dataset lists no labels, each image
is read for them, which takes time; the log says so. Images are read as other sources read them where the dataset takes
a `loader`, else as torchvision gives them. Where torchvision keeps no paths, samples are numbered in the order that it
lists them in.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
import operator
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import StringConstraints, field_validator

from kd.common.errors import UserError, did_you_mean, shown
from kd.common.options import BaseOptions
from kd.data.sources.base import Listing, Sample, SplitName
from kd.data.sources.files import open_image, readable, tree_digest

if TYPE_CHECKING:
    from PIL.Image import Image


Arguments = dict[str, Any]

OURS = ("root", "download", "transform", "target_transform", "transforms", "loader")
"""Arguments that the program gives, where a dataset takes them."""
SPLIT_ARGUMENTS = ("split", "image_set")
SPLIT_WORDS = {"train": ("train", "trainval"), "val": ("val", "valid"), "test": ("test",)}
# Where datasets keep the labels, the names of classes and the paths of images; or pairs of path and label.
LABELS = ("targets", "labels", "_labels", "y")
NAMES = ("classes", "categories")
PATHS = ("_image_files", "_images", "data")
PAIRS = ("samples", "_samples", "imgs")
NOT_READ = ("LSUN", "LSUNClass", "VisionDataset")
"""Datasets for which torchvision unpickles, and writes, files of the current folder; and the base of all."""
SAME_NAME = "classes of the same name told apart by their numbers"

log = logging.getLogger("kd")


class Options(BaseOptions):
    """The dataset, its folder, and what makes its splits."""

    dataset: Annotated[str, StringConstraints(pattern="^[A-Za-z][A-Za-z0-9_]*$")]
    """Name of a class in torchvision.datasets, such as `SVHN`."""
    root: Path
    """The folder that torchvision calls `root`."""
    arguments: Arguments = {}
    """Further arguments of the class, for all of its splits, such as `{split: letters}` of `EMNIST`."""
    splits: dict[SplitName, Arguments] | None = None
    """Arguments that make each split, such as `{train: {split: extra}, test: {split: test}}`; `null`: those that the
    class has for it, else all samples are without a split."""

    @field_validator("splits")
    @classmethod
    def _train_is_there(cls, value: dict[str, Arguments] | None) -> dict[str, Arguments] | None:
        if value is not None and "train" not in value:
            raise ValueError(f"has {sorted(value)}, expected train among them")
        return value


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of all files in the folder, and the version of torchvision."""
    return {"files": tree_digest(options.root), "torchvision": importlib.metadata.version("torchvision")}


def read(options: Options) -> Listing:
    """Images as torchvision gives them; ids are split and path, such as `train/cat/1.jpg`, or split and number."""
    splits = [_Split(options, name, dataset) for name, dataset in _datasets(options).items()]
    notes: Counter[str] = Counter()
    samples = []
    for split in splits:
        names = split.unique_names(notes) if all(each.names for each in splits) else None
        for index, (name, label) in enumerate(zip(split.ids(), split.labels, strict=True)):
            if names is not None and label >= len(names):
                raise split.error(
                    index, f"has the label {label}, expected less than {len(names)}, the number of classes"
                )
            class_name = str(label) if names is None else names[label]
            samples.append(Sample(name, (class_name,), partial(split.image, index), split.name))
    return Listing(samples, dict(+notes))


# The dataset of each split


def _datasets(options: Options) -> dict[str | None, Any]:
    """The dataset of each split; one without a split, if the class has none."""
    kind = _kind(options.dataset)
    takes = _parameters(kind)
    if options.splits is not None:
        return {
            name: _made(options, kind, takes, f"splits.{name}", arguments) for name, arguments in options.splits.items()
        }
    if "train" in takes and "train" not in options.arguments:
        return {
            name: _made(options, kind, takes, "arguments", {"train": name == "train"}) for name in ("train", "test")
        }
    argument = next((each for each in SPLIT_ARGUMENTS if each in takes and each not in options.arguments), None)
    if argument is None:
        return {None: _made(options, kind, takes, "arguments", {})}
    found: dict[str | None, Any] = {}
    for name, words in SPLIT_WORDS.items():
        refused = None
        for word in words:
            try:
                found[name] = _made(options, kind, takes, "arguments", {argument: word})
                break
            except _UnknownValueError as error:
                refused = error
        if "train" not in found:
            raise UserError(
                f"source.splits: must be given, as {options.dataset} has no {argument} that is called train"
                f" ({shown(refused)}); such as {{train: {{{argument}: …}}, test: {{{argument}: …}}}}"
            )
    return found


def _kind(name: str) -> Any:
    """The class of that name."""
    from torchvision import datasets

    members = {each: getattr(datasets, each) for each in datasets.__all__ if each not in NOT_READ}
    known = {
        each: kind
        for each, kind in members.items()
        if isinstance(kind, type) and issubclass(kind, datasets.VisionDataset) and "root" in _parameters(kind)
    }
    if name not in known:
        said = f"source.dataset: torchvision has no {name} that is read; {did_you_mean(name, known)}"
        raise UserError(f"{said}known are {', '.join(known)}")
    return known[name]


def _parameters(kind: Any) -> dict[str, inspect.Parameter]:
    """What the class takes, also by way of the classes that it hands further arguments on to."""
    found: dict[str, inspect.Parameter] = {}
    for each in kind.__mro__:
        if "__init__" not in vars(each):
            continue
        own = list(inspect.signature(each.__init__).parameters.values())[1:]
        named = {one.name: one for one in own if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)}
        found = named | found
        if all(one.kind != one.VAR_KEYWORD for one in own):
            break
    return found


class _UnknownValueError(UserError):
    """An argument has a value that the class does not know."""


def _made(options: Options, kind: Any, takes: Mapping[str, inspect.Parameter], place: str, arguments: Arguments) -> Any:
    """The dataset that the class makes with some arguments."""
    given = options.arguments | arguments
    for name in given:
        if name in OURS:
            raise UserError(f"source.{place}: {name} is given by the program; leave it out")
        if name not in takes:
            allowed = [each for each in takes if each not in OURS]
            raise UserError(f"source.{place}: {options.dataset} takes no {shown(name)!r}, but {allowed}")
    all_own: Arguments = {"root": str(options.root), "download": False, "loader": lambda path: open_image(Path(path))}
    own = {name: value for name, value in all_own.items() if name in takes}
    needed = [each for each, one in takes.items() if one.default is one.empty and each not in own | given]
    if needed:
        raise UserError(f"source.arguments: {options.dataset} needs {needed[0]}, too")
    try:
        return kind(**own, **given)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # each dataset has errors of its own
        if isinstance(error, ValueError) and str(error).startswith("Unknown value"):
            raise _UnknownValueError(f"source.{place}: {options.dataset}: {shown(error)}") from error
        by = f" but by torchvision.datasets.{options.dataset} with download=True" if "download" in takes else ""
        raise UserError(
            f"source.root: {readable(options.root)}: torchvision finds no {options.dataset} there for {given}"
            f" ({type(error).__name__}: {shown(error)}){_where(kind)}; nothing is downloaded{by}"
        ) from error


def _where(kind: Any) -> str:
    """What the class, or that which it is derived from, says of where it looks."""
    for each in kind.__mro__:
        text = f"{each.__doc__}\n\n"
        said = re.search(r"^\s*root \(.*?\): (.*?)(?=^\s*\w+ \(|^\s*$)", text, re.DOTALL | re.MULTILINE)
        if said:
            return f"; it says of its root: {shown(said[1].strip().rstrip('.'))}"
    return ""


# The samples of a split


class _Split:
    """The samples of one dataset of torchvision.

    Args:
        options: of the source.
        name: of the split.
        dataset: of torchvision.

    Attributes:
        labels: the number of the class of each sample.
        names: of classes, where the dataset has them and counts by them.
    """

    def __init__(self, options: Options, name: str | None, dataset: Any) -> None:
        self.options, self.name, self.dataset = options, name, dataset
        kept = self._kept()
        self.labels = self._asked() if kept is None else kept
        self.names = None if kept is None else self._names()

    def error(self, index: int, said: str) -> UserError:
        """What is wrong with a sample."""
        of = f" of {self.name}" if self.name else ""
        return UserError(f"{self.options.dataset} in {readable(self.options.root)}: sample {index}{of} {said}")

    def ids(self) -> Iterable[str]:
        """Of each sample, split and path, where the dataset keeps paths, or else its number."""
        start = f"{self.name}/" if self.name else ""
        for attribute in (*PATHS, *PAIRS):
            paths: Any = getattr(self.dataset, attribute, None)
            if attribute in PAIRS and _is_list(paths, len(self.labels)):
                paths = [pair[0] if isinstance(pair, tuple | list) and pair else None for pair in paths]
            if _is_list(paths, len(self.labels)) and all(isinstance(path, str | Path) for path in paths):
                root = self.options.root.absolute()
                found = [Path(path).absolute() for path in paths]
                names = [readable(path.relative_to(root) if path.is_relative_to(root) else path) for path in found]
                if len(set(names)) == len(names):
                    return [f"{start}{name}" for name in names]
        return [f"{start}{index:07d}" for index in range(len(self.labels))]

    def image(self, index: int) -> Image:
        """The image of a sample."""
        return self._item(index)[0]

    def unique_names(self, notes: Counter[str]) -> list[str]:
        """Names of classes; behind those that several have stands the number of the class."""
        assert self.names is not None
        counts = Counter(self.names)
        notes[SAME_NAME] = max(notes[SAME_NAME], sum(count for count in counts.values() if count > 1))
        return [f"{name} ({label})" if counts[name] > 1 else name for label, name in enumerate(self.names)]

    def _item(self, index: int) -> tuple[Image, Any]:
        """Image and target of a sample, as the dataset gives them."""
        from PIL import Image

        from kd.data.decoding import MODES

        try:
            item = self.dataset[index]
            image, target = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
            if isinstance(image, Image.Image):
                image.load()
        except (UserError, MemoryError):
            raise
        except Exception as error:
            raise self.error(index, f"cannot be read ({type(error).__name__}: {shown(error)})") from error
        if not isinstance(image, Image.Image) or not isinstance(item, tuple) or len(item) != 2:
            what = [type(each).__name__ for each in item] if isinstance(item, tuple) else type(item).__name__
            raise self.error(index, f"is {what}, expected an image and a label")
        if image.mode not in MODES:
            raise self.error(index, f"has pixels of mode {image.mode}; expected grey or RGB, of 8 or 16 bits")
        return image, target

    def _kept(self) -> list[int] | None:
        """Labels that the dataset keeps as a list, if items have the same."""
        size = len(self.dataset)
        for attribute in (*LABELS, *PAIRS):
            values: Any = getattr(self.dataset, attribute, None)
            values = values.tolist() if hasattr(values, "tolist") else values
            if attribute in PAIRS and _is_list(values, size):
                values = [pair[-1] if isinstance(pair, tuple | list) and pair else None for pair in values]
            if not _is_list(values, size):
                continue
            labels = [_whole(value) for value in values]
            if None not in labels:
                found = [self._checked(index, label) for index, label in enumerate(labels)]
                ends = {found.index(min(found)), found.index(max(found))}
                if all(_whole(self._item(index)[1]) == found[index] for index in ends):
                    return found
        return None

    def _asked(self) -> list[int]:
        """Labels of items, each of which is read for it."""
        size = len(self.dataset)
        of = f" of {self.name}" if self.name else ""
        log.warning("%s lists no labels: %d images%s are read for them", self.options.dataset, size, of)
        return [self._checked(index, self._item(index)[1]) for index in range(size)]

    def _checked(self, index: int, target: Any) -> int:
        label = _whole(target)
        if label is None:
            raise self.error(index, f"has the target {shown(target, 80)}, expected the number of a class")
        if label < 0:
            raise self.error(index, f"has the label {label}, which stands for none; expected 0 or more")
        return label

    def _names(self) -> list[str] | None:
        for attribute in NAMES:
            names = getattr(self.dataset, attribute, None)
            if isinstance(names, Sequence) and not isinstance(names, str) and names:
                joined = [", ".join(name) if isinstance(name, tuple) else name for name in names]
                if all(isinstance(name, str) and name for name in joined):
                    return joined
        return None


def _is_list(values: Any, size: int) -> bool:
    return isinstance(values, list | tuple) and len(values) == size > 0


def _whole(value: Any) -> int | None:
    """A whole number, of any type that is one; None: it is something else."""
    try:
        return operator.index(value)
    except TypeError:
        return None
