"""Any network as methods see it."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small, resnet18, vit_b_16

import kd


def of(network: nn.Module) -> dict[str, Tensor]:
    """Arrays that hooks of our own see in a ResNet of torchvision."""
    seen: dict[str, Any] = {}
    for level, name in (("L2", "layer4"), ("L3", "layer3"), ("L4", "layer2")):
        network.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, level=level: seen.update({level: output})  # noqa: ARG005
        )
    network.get_submodule("fc").register_forward_pre_hook(lambda _, inputs: seen.update(L1=inputs[0]))
    seen["logits"] = network(torch.ones(2, 3, 64, 64))
    return seen


def test_tapped__a_network_of_torchvision() -> None:
    torch.manual_seed(0)
    network = resnet18(num_classes=7).eval()
    maps = {"L2": "layer4", "L3": "layer3", "L4": "layer2"}
    tapped = kd.Tapped(network, ("L4", "L1", "logits", "L3", "L2"), maps=maps)
    found = tapped(torch.ones(2, 3, 64, 64))
    assert list(found) == ["L4", "L1", "logits", "L3", "L2"]
    wanted = of(network)
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    assert not network.fc._forward_pre_hooks or len(network.fc._forward_pre_hooks) == 1  # only the one of this test


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext", "test_mambaout", "mobilenetv3_small_050"]
)
def test_tapped__a_model_of_timm_as_the_workflow_sees_it(name: str) -> None:
    """Maps and vector are those that a `Network` around the same backbone gives; logits are the model's own."""
    size = 160 if name == "test_vit" else 64
    model = timm.create_model(name, num_classes=7).eval()
    network = kd.create_network(name, 7, image_size=size, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    network.backbone.load_state_dict(model.state_dict(), strict=False)
    inputs = torch.rand(2, 3, size, size)
    levels: Any = ("L1", "L2", "L3")
    found = kd.Tapped(model, ("logits", *levels))(inputs)
    wanted = kd.Tapped(network, levels)(inputs)
    torch.testing.assert_close(found["logits"], model(inputs))
    for level in levels:
        torch.testing.assert_close(found[level], wanted[level])


def test_tapped__leaves_gradients_and_mode() -> None:
    tapped = kd.Tapped(timm.create_model("test_resnet", num_classes=5), ("L2",))
    assert tapped.shapes(torch.rand(1, 3, 32, 32)) == {"L2": (96, 1, 1)}
    assert tapped.training
    tapped(torch.rand(2, 3, 32, 32))["L2"].sum().backward()
    assert tapped.module.conv1[0].weight.grad is not None  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (resnet18, {"names": ("L5",)}, "names: 'L5', expected some of logits, L1"),
        (resnet18, {"names": ("L2",)}, "level L2: say which submodule of ResNet gives this map"),
        (resnet18, {"names": ("L2",), "maps": {"L2": "layer5"}}, "ResNet has no submodule 'layer5'"),
        (resnet18, {"names": ("L2",), "maps": {"l2": "layer4"}}, "maps: 'l2', expected some of L2, L3, L4"),
        (resnet18, {"names": ("L1",), "classifier": "head"}, "L1: ResNet has no submodule 'head'"),
        (resnet18, {"names": ("label_embeddings",)}, "only a Network with a label_encoder"),
        (lambda: nn.Conv2d(3, 3, 1), {"names": ("L1",)}, "L1: Conv2d has no classifier that can be found"),
        (lambda: kd.create_network("test_resnet", 5), {"dataset": "cats"}, "dataset: 'cats', expected one of data"),
    ],
)
def test_tapped__says_what_is_not_there(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(kd.UserError, match=message):
        kd.Tapped(make(), **options)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: nn.Conv2d(3, 3, 1), {}, r"logits: the output of Conv2d is \(1, 3, 224, 224\), expected a tensor of 2"),
        (vit_b_16, {"names": ("L2",), "maps": {"L2": "encoder"}}, r"L2: the output of encoder of VisionTransformer is"),
        (mobilenet_v3_small, {"names": ("L1",), "classifier": "features.0"}, "L1: the input of features.0 of"),
    ],
)
def test_tapped__refuses_arrays_of_another_kind(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(kd.UserError, match=message):
        kd.Tapped(make(), **options)(torch.rand(1, 3, 224, 224))


def test_create_network__says_what_is_wrong() -> None:
    for given, message in (
        ({"architecture": "resnet17"}, "architecture: 'resnet17' is not the name of a known timm model"),
        ({"architecture": "resnet18", "latent_dims": 3}, "network: latent_dims: Extra inputs are not permitted"),
        ({"architecture": "resnet18", "image_size": 3}, "network: image_size"),
        ({"architecture": "resnet18", "weights": "pretrained"}, "weights: pretrained, which the workflow fetches"),
    ):
        with pytest.raises(kd.UserError, match=message):
            kd.create_network(classes=3, **given)


def test_tapped__refuses_what_is_changed_in_place_later() -> None:
    changed = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(kd.UserError, match="L2: what comes next changes the output of '0' in place"):
        kd.Tapped(changed, ("L2",), maps={"L2": "0"})(torch.rand(2, 3, 8, 8))
    assert kd.Tapped(changed, "L2", maps={"L2": "1"})(torch.rand(2, 3, 8, 8))["L2"].min() >= 0


def test_network__refuses_whole_numbers() -> None:
    with pytest.raises(kd.UserError, match=r"inputs: are torch.uint8, expected floats in 0..1"):
        kd.create_network("test_resnet", 3)(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_tapped__the_input_of_a_convolution_as_classifier_is_a_vector() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 5, 1), nn.Flatten())
    assert kd.Tapped(network, ("L1",), classifier="2").shapes(torch.rand(2, 3, 8, 8)) == {"L1": (4,)}
