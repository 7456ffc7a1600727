"""Files of weights: those that this project stores, and checkpoints of other programs."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kd.artefacts.files import replacing, write_text
from kd.common.errors import UserError, first_mistake
from kd.models.finite import first_not_finite

NETWORK = "network"  # name of the two files of a network that this project stored
OptionsT = TypeVar("OptionsT", bound=BaseModel)
ModuleT = TypeVar("ModuleT", bound=nn.Module)
MOST_NAMES = 5  # in a message


Found = tuple[dict[str, Tensor], dict[str, int]]
"""Weights in a checkpoint, under the names that the architecture has for them; and what was chosen among several, in
words, and how often."""


def read_tensors(path: Path) -> dict[str, dict[str, Tensor]]:
    """All tensors of a safetensors file or a torch file.

    Returns:
        Tensors by name, by where they stand in the file: `""` where nothing is around them, and `model.` or
        `checkpoint.state_dict.` where dictionaries are.

    Raises:
        UserError: there is no such file, or it is none of tensors.
    """
    if path.suffix == ".safetensors":
        return {"": load_safetensors(path)}
    groups = dict(_groups(_load_torch(path)))
    if not groups:
        raise UserError(f"{path}: holds no tensors by name")
    return groups


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name.

    Raises:
        UserError: there is no such file, or it is none of tensors.
    """
    _check_file(path)
    try:
        return load_file(path)
    except Exception as error:
        raise UserError(f"{path}: not a safetensors file, or a damaged one ({_one_line(error)})") from error


def _load_torch(path: Path) -> Any:
    _check_file(path)
    try:
        # A plain holder of attributes, in which timm, DeiT, MAE and others keep their command line.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the unpickler meets, in paragraphs of advice
        others = _other_objects(path)
        if others:
            raise UserError(
                f"{path}: not a torch file of tensors: it also holds {_some(others)}, and loading those may run any"
                " code; store the tensors alone, for example by safetensors.torch.save_file"
            ) from error
        raise UserError(f"{path}: not a torch file of tensors, or a damaged one ({type(error).__name__})") from error


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path} is not a file; expected one of tensors")


def _other_objects(path: Path) -> list[str]:
    """Names of what a torch file holds beside tensors and plain values, as far as can be told."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # noqa: BLE001 - of an old format, or no torch file at all
        return []
    return sorted(set(names) - {"argparse.Namespace"})


def _groups(content: Any, place: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Tensors by name, of a dictionary and of those in it."""
    if not isinstance(content, Mapping):
        return
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    own = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    if own:
        yield place, own
    for name, value in named.items():
        yield from _groups(value, f"{place}{name}.")


def find_by_name(groups: dict[str, dict[str, Tensor]], wanted: Iterable[str], path: Path) -> Found:
    """The weights of an architecture, whatever stands around them or in front of their names.

    So wrappers of timm, Lightning, DistributedDataParallel and torch.compile need not be known: what most of the
    wanted names stand behind is one. Of several a moving average is taken, as timm does.

    `groups` are as `read_tensors` gives them, `wanted` the names that the architecture has without its classifier.

    Raises:
        UserError: several networks are there.
    """
    tensors = {place + name: value for place, group in groups.items() for name, value in group.items()}
    wanted, counts = set(wanted), Counter[str]()
    for name in tensors:
        for match in re.finditer(r"^|(?<=\.)", name):
            if name[match.start() :] in wanted:
                counts[name[: match.start()]] += 1
    if not counts:
        return tensors, {}
    prefix, notes = _preferred(counts, path)
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}, notes


def find_by_order(groups: dict[str, dict[str, Tensor]], path: Path) -> Found:
    """The largest group of tensors, whose names mean nothing; for arguments and errors see `find_by_name`."""
    place, notes = _preferred(Counter({place: len(group) for place, group in groups.items()}), path)
    return groups[place], notes


def _preferred(counts: Counter[str], path: Path) -> tuple[str, dict[str, int]]:
    """The place with most tensors; of several such places the moving average, and a note of that."""
    most = max(counts.values())
    best = [place for place, count in counts.items() if count == most]
    averaged = [place for place in best if "ema" in re.split(r"[._]", place.lower())]
    first, *others = averaged or best
    if others:
        raise UserError(f"{path}: holds several networks: {_some([first, *others])}; store the one that you mean alone")
    left = [place for place, count in counts.items() if 2 * count > most and place != first]
    return first, {f"{path}: weights of {_place(first)} taken, not of {_some(left)}": 1} if left else {}


def _place(prefix: str) -> str:
    return prefix.rstrip(".") or "the top level"


def _some(names: list[str]) -> str:
    shown = ", ".join(_place(name) for name in names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights of a training that went astray.

    Raises:
        UserError: a tensor holds NaN or infinity, or does not hold its values one by one.
    """
    for name, value in tensors.items():
        if value.is_meta or value.is_quantized or value.layout != torch.strided:
            raise UserError(f"{path}: {name}: is sparse, quantised or without values; expected plain tensors")
    bad = first_not_finite(tensors)
    if bad is not None:
        raise UserError(f"{path}: {bad}: holds values that are not finite; expected weights of a sound training")


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], path: Path, *, same_dtype: bool = False) -> None:
    """Load tensors of a file whose names and shapes are just those of a module.

    With `same_dtype` dtypes must be equal, too; otherwise floating-point values are converted.

    Raises:
        UserError: they are others; at most five are named.
    """
    wanted = module.state_dict()
    lacking = [name for name in wanted if name not in tensors]
    unknown = [name for name in tensors if name not in wanted]
    other = [
        f"{name} {_kind(tensors[name])} for {_kind(value)}"
        for name, value in wanted.items()
        if name in tensors
        and (value.shape != tensors[name].shape or not _takes(value, tensors[name], same_dtype=same_dtype))
    ]
    for what, names in (("lacks", lacking), ("has besides", unknown), ("has", other)):
        if names:
            raise UserError(f"{path}: does not fit the architecture: {what} {_some(names)}")
    module.load_state_dict(dict(tensors))


def _takes(own: Tensor, given: Tensor, *, same_dtype: bool) -> bool:
    """Integers are no weights: those of a quantised network mean nothing without their scales."""
    return own.dtype == given.dtype if same_dtype else given.is_floating_point() or not own.is_floating_point()


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a .safetensors file, wholly or not at all, and only if all is finite."""
    bad = first_not_finite(tensors)
    if bad is not None:
        raise UserError(f"{path}: {bad} is not finite, so nothing is stored")
    with replacing(path) as partial:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial)


def save_stored(module: nn.Module, options: BaseModel, directory: Path, name: str) -> None:
    """Store a module and the options that describe it so that `load_stored` builds it again; the folder is made."""
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / f"{name}.json", options.model_dump_json(indent=1))
    save_tensors(directory / f"{name}.safetensors", module.state_dict())


def load_stored(directory: Path, name: str, options: type[OptionsT], make: Callable[[OptionsT], ModuleT]) -> ModuleT:
    """Build a module from the description and the weights that `save_stored` wrote, neither of which is trusted.

    Raises:
        UserError: one of the files is missing, damaged or another's; the text names it.
    """
    config, weights = directory / f"{name}.json", directory / f"{name}.safetensors"
    described = read_options(config, options)
    try:
        module = make(described)
    except Exception as error:
        raise UserError(f"{config}: describes nothing that can be built: {_one_line(error)}") from error
    load_strictly(module, load_safetensors(weights), weights, same_dtype=True)
    return module


def read_options(path: Path, options: type[OptionsT]) -> OptionsT:
    """Options from a JSON file that this project stored.

    Raises:
        UserError: the file is missing, or says something else.
    """
    try:
        return options.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except ValidationError as error:
        raise UserError(": ".join(filter(None, (str(path), *first_mistake(error))))) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
