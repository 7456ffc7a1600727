"""Shapes and bytes of networks, which are built for that without storage (torch's meta device)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import timm
import torch
from torch import nn

from kd.common.errors import UserError
from kd.data.packed import DatasetInfo
from kd.distillers.base import Shapes
from kd.models.backbones.timm_weights import check_pretrained
from kd.models.joint import JointTeacher, joint_config
from kd.models.network import Network, tap_shapes
from kd.models.outputs import Outputs, shapes_of
from kd.models.spec import LEVELS, JointOptions, ModelSpec, untrained
from kd.models.weights import new_network

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
    shapes: Shapes = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    def output(self, name: str, key: str) -> Shape:
        """Shape of one sample's output.

        Raises:
            UserError: there is none, though `key` of the config asks for it.
        """
        if name in self.problems:
            raise UserError(f"{key}: {self.problems[name]}")
        return self.shapes[name]


def measured(key: str, measure: Callable[[], Measured]) -> Measured:
    """Measure on the meta device; some architectures look at values while they are built: on the CPU.

    Raises:
        UserError: as `measure`, which does not know the `key` that its network has in the config.
    """
    try:
        with suppress(Exception), torch.device("meta"):  # whatever goes wrong, the CPU says whether it is a mistake
            return measure()
        return measure()
    except UserError as error:
        told = str(error)
        raise UserError(key + told.removeprefix("models") if told.startswith("models") else f"{key}: {told}") from error


def weigh(module: nn.Module | None) -> Measured:
    """A module, of which no outputs are asked; None weighs nothing."""
    if module is None:
        return Measured(0, 0)
    trained = sum(each.nbytes for each in module.parameters() if each.requires_grad)
    return Measured(sum(each.nbytes for each in module.state_dict().values()), trained)


def build(model: ModelSpec, datasets: Sequence[DatasetInfo]) -> Network:
    """A network with a head for each dataset, whatever weights it is to start from."""
    return new_network(untrained(model), datasets, statistics=datasets[0])


def measure_network(model: ModelSpec, datasets: Sequence[DatasetInfo]) -> Measured:
    """An individual teacher, a student or a baseline, with the outputs for its first dataset.

    Raises:
        UserError: timm cannot build it, or it does not take images of this size.
    """
    network = build(model, datasets)
    shapes: dict[str, Shape] = {}
    problems: dict[str, str] = {}
    for name in (*LEVELS, "logits", *(["label_embeddings"] if network.labels is not None else [])):
        try:
            shape = shapes[name] = tap_shapes(network, [name], datasets[0].name)[name]
            if name in LEVELS and len(shape) != (1 if name == "L1" else 3):
                problems[name] = f"level {name}: has the shape {shape}, expected a vector at L1 and else a map"
        except UserError as error:
            problems[name] = str(error)
        except FORWARD_ERRORS as error:
            if network.mean.is_meta:
                raise
            rows, columns = network.config.input_size
            problems[name] = f"level {name}: fails on an image of {rows} x {columns} pixels: {error}"
    if "L1" in problems:
        raise UserError(f"models{'.kwargs' if model.kwargs else ''}: {model.architecture}: {problems['L1']}")
    return replace(weigh(network), shapes=shapes, problems=problems)


def measure_pretrained(architecture: str) -> Measured:
    """A whole architecture with the classifier of its pretrained weights.

    Raises:
        UserError: timm has no such weights.
    """
    check_pretrained(architecture)
    return weigh(timm.create_model(architecture))


def measure_joint(
    options: JointOptions, shapes: Sequence[Shape], datasets: Sequence[DatasetInfo], target: str
) -> Measured:
    """A joint teacher of all these datasets, with the outputs for one of them; `shapes` are those that it reads."""
    joint = JointTeacher(joint_config(options, shapes, datasets)).eval()
    with torch.no_grad():
        outputs: Outputs = joint([{options.level: torch.zeros(1, *shape)} for shape in shapes])
    return replace(weigh(joint), shapes=shapes_of(outputs.arrays(target)))
