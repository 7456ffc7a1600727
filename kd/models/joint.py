"""The joint teacher T*: fuses what several frozen teachers see of an image (MLFD, section on joint teachers).

    L1  dropout -> linear on the concatenated vectors
    L2  per teacher an adaptor (batch norm, 1x1 conv to `width`), concatenated; batch norm, GELU;
        1x1 conv to the student's channels; batch norm, GELU = distilled map; average pool, dropout, linear
    L3  the same adaptors on the maps of stride 16; 3x3 conv of stride 2, batch norm, GELU = a distilled map
        of its own; then the 1x1 conv and the rest of L2
    L4  two convs of stride 2, two distilled maps, then the rest of L2

Fused at level Lk it gives k - 1 distilled maps. With a label-wise encoder (L2 to L4, multi-label) the last of them
goes through dropout, element by element, and the encoder instead of average pool, dropout and linear; it then gives an
embedding for each label, too. The individual teachers are no part of it: it takes their embeddings, cached or live.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

import torch
from annotated_types import Ge, Gt, Lt
from pydantic import model_validator
from torch import Tensor, nn

from kd.common.errors import UserError
from kd.common.options import BaseOptions
from kd.data.packed import DatasetInfo
from kd.models.network import Heads, LabelClassifier, resample, tap_shapes
from kd.models.outputs import Outputs
from kd.models.spec import HeadSizes, JointOptions, LabelEncoderOptions, Level, map_levels
from kd.models.weight_files import load_stored, save_stored
from kd.models.weights import new_network

NAME = "joint"  # of its files

Embeddings = Sequence[dict[str, Tensor]]  # per teacher: level -> (B, D) or (B, C, h, w)


class JointConfig(BaseOptions):
    """All that is needed to build a joint teacher again: stored beside its weights as joint.json.

    Examples:
        >>> import kd
        >>> maps = {"grid": (4, 4), "map_channels": [128]}
        >>> kd.JointConfig(level="L2", channels=[96, 192], width=256, dropout=0.5, heads={"data": 5}, **maps).grid
        (4, 4)
    """

    level: Level
    channels: list[Annotated[int, Gt(0)]]
    """Channels (or vector width, at L1) of each teacher's embedding at `level`, in the order of the teachers."""
    grid: tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)]] | None
    """Height and width that the teachers' maps are resampled to; None at L1."""
    map_channels: list[Annotated[int, Gt(0)]]
    """Channels of the distilled maps, shallow to deep: those of the student's maps of the same levels."""
    width: Annotated[int, Gt(0)]
    dropout: Annotated[float, Ge(0), Lt(1)]
    heads: HeadSizes
    """Classes of each target dataset."""
    label_encoder: LabelEncoderOptions | None = None
    """An embedding for each label from the last map, instead of a linear classifier on its mean; not at L1."""

    @model_validator(mode="after")
    def _maps_of_its_level(self) -> Self:
        maps = len(map_levels(self.level))
        if (self.grid is None) != (maps == 0):
            raise ValueError(f"grid is {self.grid}, expected a height and width at all levels but L1")
        if len(self.map_channels) != maps:
            raise ValueError(f"map_channels are {self.map_channels}, expected {maps} of them at {self.level}")
        return self


def joint_config(
    options: JointOptions, shapes: Sequence[tuple[int, ...]], datasets: Sequence[DatasetInfo]
) -> JointConfig:
    """The description of a joint teacher of datasets; `shapes`: of a sample's embedding at its level, by each teacher.

    Raises:
        UserError: the student cannot be built, or has no maps of its level.
    """
    levels = map_levels(options.level)
    grid: tuple[int, int] | None = None
    map_channels = [options.width] * len(levels)
    if levels:
        grid = (max(shape[1] for shape in shapes), max(shape[2] for shape in shapes))
        if options.student is not None:
            maps = tap_shapes(new_network(options.student, datasets), levels)
            grid = (maps[options.level][1], maps[options.level][2])
            map_channels = [maps[level][0] for level in levels]
    return JointConfig(
        level=options.level,
        channels=[shape[0] for shape in shapes],
        grid=grid,
        map_channels=map_channels,
        width=options.width,
        dropout=options.dropout,
        heads={dataset.name: len(dataset.classes) for dataset in datasets},
        label_encoder=options.label_encoder,
    )


class JointTeacher(nn.Module):
    """T*, with one head per target dataset: one target in scope `per_target`, several in scope `shared`.

    Examples:
        >>> import kd, torch
        >>> options = {"grid": None, "map_channels": [], "width": 512, "dropout": 0.5}
        >>> joint = kd.JointTeacher(kd.JointConfig(level="L1", channels=[96, 192], heads={"data": 5}, **options))
        >>> joint([{"L1": torch.rand(4, 96)}, {"L1": torch.rand(4, 192)}]).logits["data"].shape
        torch.Size([4, 5])
    """

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = config
        self.adaptors = nn.ModuleList()
        self.stages = nn.ModuleList()
        width = sum(config.channels)
        if config.level != "L1":
            self.adaptors.extend(_adaptor(channels, config.width) for channels in config.channels)
            width = config.width * len(config.channels)
            self.fused = nn.Sequential(nn.BatchNorm2d(width), nn.GELU())
            *strided, last = config.map_channels
            for channels in strided:
                self.stages.append(_stage(width, channels, kernel=3, stride=2))
                width = channels
            self.stages.append(_stage(width, last, kernel=1, stride=1))
            width = last
        self.dropout = nn.Dropout(config.dropout)
        self.heads = Heads(width, {} if config.label_encoder else config.heads)
        self.labels = LabelClassifier(width, config.heads, config.label_encoder) if config.label_encoder else None

    def forward(self, embeddings: Embeddings) -> Outputs:
        """Fuse a batch.

        Args:
            embeddings: one dict per teacher, in the order of `config.channels`, holding `config.level`.

        Returns:
            The vector (B, D), which is the mean of the last map, or at L1 all vectors side by side; the distilled
            maps by level of the student; the logits of every head, and its label embeddings if there is an encoder.
        """
        inputs, grid = [each[self.config.level] for each in embeddings], self.config.grid
        maps: dict[str, Tensor] = {}
        if grid is None:
            vector = torch.cat(inputs, dim=1)
        else:
            adapted = [adaptor(resample(x, grid)) for adaptor, x in zip(self.adaptors, inputs, strict=True)]
            x = self.fused(torch.cat(adapted, dim=1))  # (B, teachers * width, h, w)
            for level, stage in zip(map_levels(self.config.level), self.stages, strict=True):
                x = maps[level] = stage(x)
            vector = x.mean(dim=(2, 3))
            if self.labels is not None:
                return Outputs(vector, maps, *self.labels(self.dropout(x)))
        return Outputs(vector, maps, self.heads(self.dropout(vector)))


class FusedTeacher(nn.Module):
    """A joint teacher together with its individual teachers: from samples to what the joint teacher says of them.

    Args:
        joint: fuses what they see.
        teachers: `Tapped` networks that give its level, in the order that it was trained with.

    Examples:
        >>> import kd, timm, torch
        >>> teachers = [kd.Tapped(timm.create_model("test_resnet", num_classes=5), ("L1",)) for _ in range(2)]
        >>> options = {"grid": None, "map_channels": [], "width": 512, "dropout": 0.5}
        >>> joint = kd.JointTeacher(kd.JointConfig(level="L1", channels=[96, 96], heads={"data": 5}, **options))
        >>> kd.FusedTeacher(joint, teachers)(torch.rand(4, 3, 32, 32)).logits["data"].shape
        torch.Size([4, 5])
    """

    def __init__(self, joint: JointTeacher, teachers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.config, self.joint, self.teachers = joint.config, joint, nn.ModuleList(teachers)
        if len(teachers) != len(joint.config.channels):
            raise UserError(f"teachers: {len(teachers)}, but the joint teacher fuses {len(joint.config.channels)}")

    def forward(self, inputs: Tensor) -> Outputs:
        """A batch, as the teachers take it.

        Raises:
            UserError: a teacher does not give the level, or has other channels than the one that it stands for.
        """
        level, seen = self.config.level, [teacher(inputs) for teacher in self.teachers]
        for each, channels in zip(seen, self.config.channels, strict=True):
            if not isinstance(each, dict) or level not in each or each[level].shape[1] != channels:
                raise UserError(
                    f"teachers: each has to be a Tapped one that gives {level}, in the order of the training"
                )
        outputs: Outputs = self.joint(seen)
        return outputs


def _adaptor(channels: int, width: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, width, kernel_size=1))


def _stage(channels: int, width: int, *, kernel: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.GELU())


def save_joint_teacher(joint: JointTeacher, directory: Path | str) -> None:
    """Store a joint teacher so that `load_joint_teacher` builds it again.

    Examples:
        >>> import kd, pathlib, tempfile
        >>> options = {"grid": None, "map_channels": [], "width": 512, "dropout": 0.5}
        >>> joint = kd.JointTeacher(kd.JointConfig(level="L1", channels=[96, 192], heads={"data": 5}, **options))
        >>> directory = pathlib.Path(tempfile.mkdtemp())
        >>> kd.save_joint_teacher(joint, directory / "mine")
        >>> sorted(path.name for path in (directory / "mine").iterdir())
        ['joint.json', 'joint.safetensors']
    """
    save_stored(joint, joint.config, Path(directory), NAME)


def load_joint_teacher(directory: Path | str) -> JointTeacher:
    """The joint teacher stored in a directory: by `save_joint_teacher`, or that of the workflow.

    Raises:
        UserError: one of its files is missing, damaged or not what this program stores.

    Examples:
        >>> import kd, pathlib, tempfile
        >>> options = {"grid": None, "map_channels": [], "width": 512, "dropout": 0.5}
        >>> joint = kd.JointTeacher(kd.JointConfig(level="L1", channels=[96, 192], heads={"data": 5}, **options))
        >>> directory = pathlib.Path(tempfile.mkdtemp())
        >>> kd.save_joint_teacher(joint, directory)
        >>> kd.load_joint_teacher(directory).config.channels
        [96, 192]
    """
    return load_stored(Path(directory), NAME, JointConfig, JointTeacher)
