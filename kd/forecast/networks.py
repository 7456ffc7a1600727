"""Shapes and sizes of networks, which are built for that without storage (torch's meta device)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import timm
import torch
from torch import nn

from kd.data.options import WHITE
from kd.data.packed import DatasetInfo
from kd.distillers.registry import parse_distiller
from kd.forecast.sizes import safetensors_bytes
from kd.jobs.errors import UserError
from kd.models.joint import JointTeacher
from kd.models.network import Network, tap_shapes
from kd.models.spec import LEVELS, LabelEncoderOptions, Level, ModelSpec
from kd.models.weights import Exported, check_pretrained, export_config, new_network
from kd.training.fusion import joint_config

T = TypeVar("T")
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
FORWARD_ERRORS = (RuntimeError, AssertionError, ValueError, IndexError, AttributeError, TypeError)
# Only their number of digits counts, in the size of a small JSON file.
STATISTIC = 0.30120040594362746


def dataset_info(question: dict[str, Any]) -> DatasetInfo:
    """A dataset as networks need to know it; its statistics are made up."""
    return DatasetInfo(
        name=question["name"],
        classes=tuple(question["classes"]),
        image_size=(question["image_size"][0], question["image_size"][1]),
        resize=question["resize"],
        mean=(STATISTIC,) * 3,
        std=(STATISTIC,) * 3,
        sizes={},
        ground=question.get("ground", WHITE),
    )


def measure_weights(architecture: str) -> dict[str, Any]:
    """A whole architecture with the classifier of its pretrained weights; as `measure_network`.

    Raises:
        UserError: timm has no such weights.
    """
    check_pretrained(architecture)

    def measure() -> dict[str, Any]:
        try:
            return _measured(timm.create_model(architecture))
        except RuntimeError as error:
            raise UserError(f"models: {error}") from error

    return _without_storage(measure)


def measure_network(model: dict[str, Any], datasets: list[dict[str, Any]]) -> dict[str, Any]:
    """An individual teacher, a student or a baseline.

    Returns:
        `file`, `config`: bytes of its weights and of network.json; `state`, `trained`: of its tensors and of
        those that train; `taps`: shape of each level's embedding, where the architecture has the level, else
        in `problems` why not.

    Raises:
        UserError: timm cannot build it, or it does not take pictures of this size.
    """

    def measure() -> dict[str, Any]:
        network = _build(model, datasets)
        taps, problems = _taps(network)
        if "L1" in problems:
            key = "models.kwargs" if model.get("kwargs") else "models"
            raise UserError(f"{key}: {network.config.architecture}: {problems['L1']}")
        config = len(network.config.model_dump_json(indent=1))
        return _measured(network) | {"config": config, "taps": taps, "problems": problems}

    return _without_storage(measure)


def measure_export(model: dict[str, Any], dataset: dict[str, Any]) -> dict[str, Any]:
    """A student as a plain timm model: `file` and `config`, bytes of its two files.

    Raises:
        UserError: it cannot be exported.
    """
    info = dataset_info(dataset)

    def export() -> tuple[Network, nn.Module | None]:
        network = _build(model, [dataset])
        return network, Exported(network, info.name).plain

    network, plain = _without_storage(export)
    measured = _measured(plain) if plain is not None else {"file": None}
    return measured | {"config": len(export_config(network.config, plain or network.backbone, info))}


def measure_joint(
    level: Level,
    shapes: list[tuple[int, ...]],
    datasets: list[dict[str, Any]],
    student: dict[str, Any] | None,
    width: int,
    dropout: float,
    label_encoder: dict[str, Any] | None,
) -> dict[str, Any]:
    """A joint teacher.

    Args:
        level: where the individual teachers are tapped.
        shapes: of each one's embeddings.
        datasets: targets.
        student: model whose map shapes the distilled maps take, or None.
        width: of the adaptors.
        dropout: before the heads, or before the label encoder.
        label_encoder: its options, or None.

    Returns:
        As `measure_network`, but for `taps`; and `shapes` of one sample's targets by name, without those that
        depend on the dataset.
    """
    infos = [dataset_info(each) for each in datasets]
    model = None if student is None else ModelSpec.model_validate(student)
    encoder = None if label_encoder is None else LabelEncoderOptions.model_validate(label_encoder)

    def build() -> tuple[JointTeacher, dict[str, tuple[int, ...]]]:
        found = [tuple(shape) for shape in shapes]
        config = joint_config(level, found, infos, model, width=width, dropout=dropout, label_encoder=encoder)
        joint = JointTeacher(config).eval()
        with torch.no_grad():
            targets = joint.make_targets([{level: torch.zeros(1, *shape)} for shape in shapes], infos[0].name)
        made = targets.named(["L1", *targets.maps])
        return joint, {name: tuple(value.shape[1:]) for name, value in made.items()}

    joint, made = _without_storage(build)
    return _measured(joint) | {"config": len(joint.config.model_dump_json(indent=1)), "shapes": made}


def measure_parts(
    distiller: dict[str, Any], student: dict[str, Any], teacher: dict[str, Any], samples: int
) -> dict[str, Any]:
    """What a distillation method trains beside the student; shapes by name."""
    shapes = [{name: tuple(shape) for name, shape in each.items()} for each in (student, teacher)]
    parts = _without_storage(lambda: parse_distiller(distiller).parts(shapes[0], shapes[1], samples))
    return _measured(parts or nn.Identity())


def _build(model: dict[str, Any], datasets: list[dict[str, Any]]) -> Network:
    infos = [dataset_info(each) for each in datasets]
    # Brought weights are not even opened: they change no shape.
    spec = ModelSpec.model_validate(model).model_copy(update={"weights": "scratch"})
    return new_network(spec, infos, statistics=infos[0])


def _taps(network: Network) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shape of each level, or why there is none."""
    taps: dict[str, tuple[int, ...]] = {}
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
            problems[level] = f"level {level}: fails on a picture of {rows} x {columns} pixels: {error}"
    return taps, problems


def _without_storage(make: Callable[[], T]) -> T:
    """Make it on the meta device; some architectures look at values while they are built, then on the CPU."""
    try:
        with torch.device("meta"):
            return make()
    except Exception:  # noqa: BLE001 - whatever went wrong, the CPU says whether it is a mistake
        return make()


def _measured(module: nn.Module) -> dict[str, Any]:
    tensors = {
        name: (tuple(value.shape), DTYPES.get(value.dtype, "F32"), value.numel() * value.element_size())
        for name, value in module.state_dict().items()
    }
    return {
        "file": safetensors_bytes(tensors),
        "state": sum(size for _, _, size in tensors.values()),
        "trained": sum(each.numel() * each.element_size() for each in module.parameters() if each.requires_grad),
    }
