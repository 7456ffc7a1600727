"""Attention maps of networks whose attention is known, and of a tiny real one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from kd.common.errors import UserError
from kd.models.network import Network, freeze
from kd.models.outputs import Outputs
from kd.models.spec import LabelEncoderOptions, NetworkConfig
from kd.reporting.drawing import save
from kd.reporting.figures.attention import attention_figure
from kd.reporting.layer_cam import class_maps


def network(architecture: str, encoder: LabelEncoderOptions | None = None, size: int = 64) -> Network:
    torch.manual_seed(0)
    config = NetworkConfig(
        architecture=architecture,
        kwargs={},
        latent_dim=None,
        label_encoder=encoder,
        input_size=(size, size),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        heads={"scenes": 5},
    )
    return Network(config)


class Colours(nn.Module):
    """Red is class 0, green class 1; blue speaks against both. Its map is the image in 4 x 4 parts."""

    def forward(self, images: Tensor, levels: Sequence[str]) -> Outputs:
        assert levels == ("L2",)
        parts = functional.adaptive_avg_pool2d(images, 4)
        red, green, blue = parts.mean(dim=(2, 3)).unbind(dim=1)
        logits = torch.stack([red - blue, green - blue], dim=1)
        return Outputs(parts.mean(dim=(2, 3)), {"L2": parts}, {"scenes": logits})


def test_class_maps__are_where_the_objects_are() -> None:
    images = torch.zeros(2, 3, 32, 32)
    images[0, 0, :8, :8] = 1  # red top left,
    images[0, 1, 24:, 16:24] = 1  # green at the bottom,
    images[0, 2, 8:16] = 1  # blue between them
    images[1, 0, 16:24, 8:16] = 0.5
    red, green = class_maps(Colours(), "scenes", images, [0, 1])[0]
    assert red.nonzero().tolist() == [[0, 0]]
    assert green.nonzero().tolist() == [[3, 2]]
    red, green = class_maps(Colours(), "scenes", images, [0, 1])[1]
    assert red[2, 1] == 1
    assert not green.any()


@pytest.mark.parametrize(
    "encoder", [None, LabelEncoderOptions(width=16, heads=2, hidden=32)], ids=["linear", "label-wise"]
)
def test_class_maps__of_a_real_network_are_as_the_formula_says(encoder: LabelEncoderOptions | None) -> None:
    model = freeze(network("test_resnet", encoder))
    images = torch.rand(3, 3, 64, 64)
    classes = [4, 0]
    with torch.no_grad():
        maps = class_maps(model, "scenes", images, classes)
    assert maps.shape[:2] == (3, 2)
    assert not maps.amin(dim=(2, 3)).any()
    assert (maps.amax(dim=(2, 3)) == 1).all()
    assert not torch.allclose(maps[:, 0], maps[:, 1])
    features = model(images.requires_grad_(), ("L2",))
    for column, index in enumerate(classes):
        tapped = features.maps["L2"]
        (gradient,) = torch.autograd.grad(features.logits["scenes"][:, index].sum(), tapped, retain_graph=True)
        heat = (gradient.relu() * tapped).sum(dim=1).relu().flatten(1)
        low, high = heat.amin(dim=1, keepdim=True), heat.amax(dim=1, keepdim=True)
        expected = ((heat - low) / (high - low)).view_as(maps[:, column])
        torch.testing.assert_close(maps[:, column], expected, rtol=1e-3, atol=1e-4)


def test_class_maps__leave_the_network_as_it_was() -> None:
    model = network("test_resnet").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    class_maps(model, "scenes", torch.rand(2, 3, 64, 64), [0])
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_class_maps__transformers_need_a_label_wise_encoder() -> None:
    images = torch.rand(1, 3, 160, 160)
    with pytest.raises(UserError, match="scores for scenes are not computed from the network's map L2"):
        class_maps(network("test_vit", size=160), "scenes", images, [0])
    encoder = LabelEncoderOptions(width=16, heads=2, hidden=32)
    assert class_maps(network("test_vit", encoder, size=160), "scenes", images, [0]).amax() == 1


def test_attention_figure__a_row_a_class_and_a_column_a_method(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3), dtype=np.uint8)
    heat = np.zeros((3, 4, 4), dtype=np.float32)
    heat[:, 1, 2] = 1
    figure = attention_figure(images, {"vanilla": heat, "joint_l2d": 1 - heat}, ["cat", "dog", "cow"], "attention")
    assert len(figure.axes) == 9
    assert [axis.get_title() for axis in figure.axes[:3]] == ["image", "vanilla", "joint l2d"]
    assert [axis.get_ylabel() for axis in figure.axes[::3]] == ["cat", "dog", "cow"]
    assert [len(axis.images) for axis in figure.axes[:3]] == [1, 2, 2]
    shown = figure.axes[4].images[1].get_array()
    assert shown is not None
    np.testing.assert_array_equal(shown, heat[1])
    save(figure, tmp_path / "attention.png")
    assert (tmp_path / "attention.png").stat().st_size > 1000
