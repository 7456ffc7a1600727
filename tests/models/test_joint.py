"""The joint teacher against an independent forward pass with explicit loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kd.models.joint import JointConfig, JointTeacher
from kd.models.network import freeze
from kd.models.spec import Level

CHANNELS = {"L1": [7, 5], "L2": [6, 4], "L3": [6, 4], "L4": [6, 4]}
GRID = {"L2": (2, 2), "L3": (4, 4), "L4": (8, 8)}
MAPS = {"L1": [], "L2": [9], "L3": [3, 9], "L4": [2, 3, 9]}


def joint(level: Level) -> JointTeacher:
    torch.manual_seed(0)
    return JointTeacher(
        JointConfig(
            level=level,
            channels=CHANNELS[level],
            grid=GRID.get(level),
            map_channels=MAPS[level],
            width=5,
            dropout=0.9,
            heads={"a": 3, "b": 4},
        )
    )


def embeddings(level: Level, batch: int = 6) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    grid = GRID.get(level, ())
    return [{level: torch.randn(batch, channels, *grid, generator=generator)} for channels in CHANNELS[level]]


def slow_norm(x: Tensor, norm: nn.Module) -> Tensor:
    assert isinstance(norm, nn.BatchNorm2d)
    channels = []
    for channel in range(x.shape[1]):
        values = x[:, channel]
        scaled = (values - values.mean()) / torch.sqrt(values.var(unbiased=False) + norm.eps)
        channels.append(scaled * norm.weight[channel] + norm.bias[channel])
    return torch.stack(channels, dim=1)


def slow_conv(x: Tensor, conv: nn.Module) -> Tensor:
    """Sum over the kernel's offsets, one output position after the other."""
    assert isinstance(conv, nn.Conv2d)
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    assert isinstance(padding, int)
    assert conv.bias is not None
    padded = nn.functional.pad(x, (padding,) * 4)
    size = (x.shape[-1] + 2 * padding - kernel) // stride + 1
    out = torch.empty(len(x), conv.out_channels, size, size)
    for row in range(size):
        for column in range(size):
            y, z = row * stride, column * stride
            patch = padded[:, :, y : y + kernel, z : z + kernel]
            out[:, :, row, column] = torch.einsum("bcij,ocij->bo", patch, conv.weight) + conv.bias
    return out


def slow_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / 2**0.5))


def slow_forward(model: JointTeacher, inputs: list[dict[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
    level = model.config.level
    if level == "L1":
        return torch.cat([each["L1"] for each in inputs], dim=1), {}
    adapted = []
    for each, adaptor in zip(inputs, model.adaptors, strict=True):
        assert isinstance(adaptor, nn.Sequential)
        adapted.append(slow_conv(slow_norm(each[level], adaptor[0]), adaptor[1]))
    x = slow_gelu(slow_norm(torch.cat(adapted, dim=1), model.fused[0]))
    maps = {}
    for name, stage in zip(
        {"L2": ["L2"], "L3": ["L3", "L2"], "L4": ["L4", "L3", "L2"]}[level], model.stages, strict=True
    ):
        assert isinstance(stage, nn.Sequential)
        x = slow_gelu(slow_norm(slow_conv(x, stage[0]), stage[1]))
        maps[name] = x
    return x.mean(dim=(2, 3)), maps


@pytest.mark.parametrize("level", ["L1", "L2", "L3", "L4"])
def test_forward__equals_slow_reference(level: Level) -> None:
    model = joint(level)
    model.train()  # batch statistics, as in training
    model.dropout.p = 0.0
    inputs = embeddings(level)
    vector, maps = slow_forward(model, inputs)
    features = model(inputs)
    torch.testing.assert_close(features.vector, vector, rtol=1e-4, atol=1e-5)
    assert list(features.maps) == list(maps)
    for name, expected in maps.items():
        torch.testing.assert_close(features.maps[name], expected, rtol=1e-4, atol=1e-5)
    head = model.heads["b"]
    assert isinstance(head, nn.Linear)
    torch.testing.assert_close(features.logits["b"], vector @ head.weight.T + head.bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", ["L1", "L2", "L3", "L4"])
def test_forward__has_one_map_less_than_its_level(level: Level) -> None:
    features = joint(level)(embeddings(level))
    assert len(features.maps) == int(level[1]) - 1
    assert [each.shape[1] for each in features.maps.values()] == MAPS[level]


def test_forward__resamples_teachers_of_other_input_sizes() -> None:
    inputs = [{"L2": torch.randn(4, 6, 7, 7)}, {"L2": torch.randn(4, 4, 8, 8)}]
    assert joint("L2")(inputs).maps["L2"].shape == (4, 9, 2, 2)


def test_forward__of_a_frozen_one_is_deterministic_and_leaves_no_trace() -> None:
    model = freeze(joint("L2"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (model(embeddings("L2")) for _ in range(2))
    one, other = first.logits["a"], second.logits["a"]
    assert torch.equal(one, other)  # dropout 0.9 is at rest
    assert not one.requires_grad
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
