"""Shapes and bytes of networks, which are built for that without storage (torch's meta device)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import timm
import torch
from torch import nn

from kd.common.errors import UserError
from kd.data.packed import DatasetInfo
from kd.distillers.base import Distiller
from kd.models.backbones.timm_weights import check_pretrained
from kd.models.joint import JointTeacher, joint_config
from kd.models.network import Network, tap_shapes
from kd.models.outputs import Outputs, shapes_of
from kd.models.spec import LEVELS, JointOptions, ModelSpec
from kd.models.weights import Exported, new_network

T = TypeVar("T")
Shape = tuple[int, ...]
FORWARD_ERRORS = (RuntimeError, AssertionError, ValueError, IndexError, AttributeError, TypeError)


@dataclass(frozen=True)
class Measured:
    """A network.

    Attributes:
        bytes: of its tensors.
        trained: bytes of those that train.
        shapes: of one sample's outputs, by level.
        problems: why a level has none.
    """

    bytes: int
    trained: int
    shapes: dict[str, Shape] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def measure_network(model: ModelSpec, datasets: Sequence[DatasetInfo]) -> Measured:
    """An individual teacher, a student or a baseline; weights that it brings are not even opened.

    Raises:
        UserError: timm cannot build it, or it does not take images of this size.
    """

    def measure() -> Measured:
        network = _build(model, datasets)
        shapes, problems = _taps(network)
        if "L1" in problems:
            key = "models.kwargs" if model.kwargs else "models"
            raise UserError(f"{key}: {model.architecture}: {problems['L1']}")
        return _measured(network, shapes, problems)

    return _without_storage(measure)


def measure_pretrained(architecture: str) -> Measured:
    """A whole architecture with the classifier of its pretrained weights.

    Raises:
        UserError: timm has no such weights.
    """
    check_pretrained(architecture)
    try:
        return _without_storage(lambda: _measured(timm.create_model(architecture)))
    except RuntimeError as error:
        raise UserError(f"models: {error}") from error


def measure_export(model: ModelSpec, dataset: DatasetInfo) -> Measured:
    """The plain module that a student is exported as, beside the network; nothing where there is none.

    Raises:
        UserError: it cannot be exported.
    """
    return _without_storage(lambda: _measured(Exported(_build(model, [dataset]), dataset.name).plain or nn.Identity()))


def measure_joint(options: JointOptions, shapes: Sequence[Shape], datasets: Sequence[DatasetInfo]) -> Measured:
    """A joint teacher; for arguments see `joint_config`. Its shapes are those of its targets."""

    def measure() -> Measured:
        joint = JointTeacher(joint_config(options, shapes, datasets)).eval()
        with torch.no_grad():
            outputs: Outputs = joint([{options.level: torch.zeros(1, *shape)} for shape in shapes])
        return _measured(joint, shapes_of({"L1": outputs.vector} | outputs.maps))

    return _without_storage(measure)


def measure_modules(method: Distiller, student: Mapping[str, Shape], teacher: Mapping[str, Shape], samples: int) -> int:
    """Bytes of what a distillation method trains beside the student."""
    return _without_storage(lambda: _measured(method.auxiliary(student, teacher, samples) or nn.Identity())).bytes


def _build(model: ModelSpec, datasets: Sequence[DatasetInfo]) -> Network:
    spec = model.model_copy(update={"weights": "scratch", "registry": None})
    return new_network(spec, list(datasets), statistics=datasets[0])


def _taps(network: Network) -> tuple[dict[str, Shape], dict[str, str]]:
    """Shape of each level, or why there is none."""
    taps: dict[str, Shape] = {}
    problems: dict[str, str] = {}
    # All at once where that goes well, as nearly always; else one by one.
    with suppress(UserError, *FORWARD_ERRORS):
        taps.update(tap_shapes(network, LEVELS))
    for level in LEVELS:
        try:
            shape = taps[level] = taps.get(level) or tap_shapes(network, [level])[level]
            if len(shape) != (1 if level == "L1" else 3):
                problems[level] = f"level {level}: has the shape {shape}, expected a vector at L1 and else a map"
        except UserError as error:
            problems[level] = str(error)
        except FORWARD_ERRORS as error:
            if network.mean.is_meta:
                raise
            rows, columns = network.config.input_size
            problems[level] = f"level {level}: fails on an image of {rows} x {columns} pixels: {error}"
    return taps, problems


def _without_storage(make: Callable[[], T]) -> T:
    """Make it on the meta device; some architectures look at values while they are built, then on the CPU."""
    try:
        with torch.device("meta"):
            return make()
    except Exception:  # noqa: BLE001 - whatever went wrong, the CPU says whether it is a mistake
        return make()


def _measured(module: nn.Module, *about: Any) -> Measured:
    tensors = module.state_dict().values()
    trained = (each for each in module.parameters() if each.requires_grad)
    return Measured(sum(each.nbytes for each in tensors), sum(each.nbytes for each in trained), *about)
