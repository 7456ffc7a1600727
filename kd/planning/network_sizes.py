"""Shapes and bytes of networks, which are built for that without storage (torch's meta device)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

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
from kd.models.spec import LEVELS, JointOptions, ModelSpec, untrained
from kd.models.weights import Exported, new_network

P = ParamSpec("P")
T = TypeVar("T")
Shape = tuple[int, ...]
FORWARD_ERRORS = (RuntimeError, AssertionError, ValueError, IndexError, AttributeError, TypeError)


@dataclass(frozen=True)
class Measured:
    """A network.

    Attributes:
        bytes: of its tensors.
        trained: bytes of those that train.
        shapes: of one sample's outputs, by name, as in `kd.models.spec.ARRAYS`.
        problems: why it lacks others.
    """

    bytes: int
    trained: int
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    def output(self, name: str, key: str) -> Shape:
        """Shape of one sample's output.

        Raises:
            UserError: there is none, though `key` of the config asks for it.
        """
        if name in self.problems:
            raise UserError(f"{key}: {self.problems[name]}")
        return self.shapes[name]


def without_storage(measure: Callable[P, T]) -> Callable[P, T]:
    """Let a function build on the meta device; some architectures look at values while they are built: on the CPU."""

    @wraps(measure)
    def measured(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with torch.device("meta"):
                return measure(*args, **kwargs)
        except Exception:  # noqa: BLE001 - whatever went wrong, the CPU says whether it is a mistake
            return measure(*args, **kwargs)

    return measured


@without_storage
def measure_network(model: ModelSpec, datasets: Sequence[DatasetInfo]) -> Measured:
    """An individual teacher, a student or a baseline, with the outputs for its first dataset.

    Raises:
        UserError: timm cannot build it, or it does not take images of this size.
    """
    network = _build(model, datasets)
    shapes, problems = _taps(network, datasets[0].name)
    if "L1" in problems:
        raise UserError(f"models{'.kwargs' if model.kwargs else ''}: {model.architecture}: {problems['L1']}")
    return _measured(network, shapes, problems)


@without_storage
def measure_pretrained(architecture: str) -> Measured:
    """A whole architecture with the classifier of its pretrained weights.

    Raises:
        UserError: timm has no such weights.
    """
    check_pretrained(architecture)
    try:
        return _measured(timm.create_model(architecture))
    except RuntimeError as error:
        raise UserError(f"models: {error}") from error


@without_storage
def measure_export(model: ModelSpec, dataset: DatasetInfo) -> Measured:
    """The plain module that a student is exported as, beside the network; nothing where there is none.

    Raises:
        UserError: it cannot be exported.
    """
    return _measured(Exported(_build(model, [dataset]), dataset.name).plain)


@without_storage
def measure_joint(
    options: JointOptions, shapes: Sequence[Shape], datasets: Sequence[DatasetInfo], target: str
) -> Measured:
    """A joint teacher of all these datasets, with the outputs for one of them; `shapes` are those that it reads."""
    joint = JointTeacher(joint_config(options, shapes, datasets)).eval()
    with torch.no_grad():
        outputs: Outputs = joint([{options.level: torch.zeros(1, *shape)} for shape in shapes])
    return _measured(joint, shapes_of(outputs.arrays(target)))


@without_storage
def measure_auxiliary(
    method: Distiller, student: Mapping[str, Shape], teacher: Mapping[str, Shape], samples: int
) -> Measured:
    """What a distillation method trains beside the student; for arguments see `Distiller.auxiliary`."""
    return _measured(method.auxiliary(student, teacher, samples))


def _build(model: ModelSpec, datasets: Sequence[DatasetInfo]) -> Network:
    return new_network(untrained(model), datasets)


def _taps(network: Network, dataset: str) -> tuple[dict[str, Shape], dict[str, str]]:
    """Shape of each output, or why there is none."""
    names = [*LEVELS, "logits", *(["label_embeddings"] if network.labels is not None else [])]
    shapes: dict[str, Shape] = {}
    problems: dict[str, str] = {}
    # All at once where that goes well, as nearly always; else one by one.
    with suppress(UserError, *FORWARD_ERRORS):
        shapes.update(tap_shapes(network, names, dataset))
    for name in names:
        try:
            shape = shapes[name] = shapes.get(name) or tap_shapes(network, [name], dataset)[name]
            if name in LEVELS and len(shape) != (1 if name == "L1" else 3):
                problems[name] = f"level {name}: has the shape {shape}, expected a vector at L1 and else a map"
        except UserError as error:
            problems[name] = str(error)
        except FORWARD_ERRORS as error:
            if network.mean.is_meta:
                raise
            rows, columns = network.config.input_size
            problems[name] = f"level {name}: fails on an image of {rows} x {columns} pixels: {error}"
    return shapes, problems


def _measured(module: nn.Module | None, *about: Any) -> Measured:
    tensors = () if module is None else module.state_dict().values()
    trained = () if module is None else (each for each in module.parameters() if each.requires_grad)
    return Measured(sum(each.nbytes for each in tensors), sum(each.nbytes for each in trained), *about)
