"""Networks and their taps, for convolutional, plain and hierarchical transformer backbones of timm."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest
import timm
import torch

from kd.common.errors import UserError
from kd.config.load import load_config
from kd.data.modalities.image import Samples
from kd.data.packed import DatasetInfo
from kd.models.network import Network, resample, tap_shapes
from kd.models.spec import ModelSpec, NetworkConfig
from kd.planning.forecast import measure_network

SWIN = {
    "embed_dim": 16,
    "depths": (1, 1, 1, 1),
    "num_heads": (1, 2, 4, 8),
    "window_size": 4,
    "patch_size": 2,
}


def network(architecture: str, size: int = 32, latent: int | None = None, **kwargs: Any) -> Network:
    torch.manual_seed(0)
    return Network(
        NetworkConfig(
            architecture=architecture,
            kwargs=kwargs,
            latent_dim=latent,
            input_size=(size, size),
            mean=(0.5, 0.4, 0.3),
            std=(0.2, 0.3, 0.4),
            heads={"a": 3, "b": 5},
        )
    ).eval()


@pytest.mark.parametrize(
    ("architecture", "size", "kwargs", "shapes"),
    [
        ("resnet18", 64, {}, {"L1": (512,), "L2": (512, 2, 2), "L3": (256, 4, 4), "L4": (128, 8, 8)}),
        ("efficientnet_b0", 64, {}, {"L1": (1280,), "L2": (1280, 2, 2), "L3": (112, 4, 4), "L4": (40, 8, 8)}),
        ("seresnext26d_32x4d", 64, {}, {"L1": (2048,), "L2": (2048, 2, 2), "L3": (1024, 4, 4), "L4": (512, 8, 8)}),
        ("test_convnext", 64, {}, {"L1": (64,), "L2": (64, 2, 2), "L3": (48, 4, 4), "L4": (32, 8, 8)}),
        (
            "test_vit",
            64,
            {"img_size": (64, 64)},
            {"L1": (64,), "L2": (64, 4, 4), "L3": (64, 4, 4), "L4": (64, 4, 4)},
        ),
        (
            "swin_tiny_patch4_window7_224",
            64,
            SWIN | {"img_size": (64, 64)},
            {"L1": (128,), "L2": (128, 4, 4), "L3": (64, 8, 8), "L4": (32, 16, 16)},
        ),
    ],
)
def test_tap_shapes__follow_the_levels_of_the_paper(
    architecture: str, size: int, kwargs: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    assert tap_shapes(network(architecture, size, **kwargs), ("L1", "L2", "L3", "L4")) == shapes


@pytest.mark.parametrize(
    ("architecture", "kwargs"),
    [
        ("test_resnet", {}),
        ("test_efficientnet", {}),
        ("test_byobnet", {}),
        ("test_vit", {"img_size": (32, 32)}),
        ("swin_tiny_patch4_window7_224", SWIN | {"img_size": (32, 32)}),
        ("hiera_tiny_224", {"img_size": (32, 32)}),  # would stop at the last tap
        ("sam2_hiera_tiny", {}),
    ],
)
def test_forward__says_the_same_whatever_is_tapped(architecture: str, kwargs: dict[str, Any]) -> None:
    model = network(architecture, latent=11, **kwargs)
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        plain, tapped = model(images), model(images, ("L2", "L3", "L4"))
        for level in ("L3", "L4"):
            alone = model(images, (level,))
            torch.testing.assert_close(plain.vector, alone.vector)
            torch.testing.assert_close(alone.maps[level], tapped.maps[level])
    torch.testing.assert_close(plain.vector, tapped.vector)
    assert plain.vector.shape == (4, 11)
    assert {name: tuple(each.shape) for name, each in plain.logits.items()} == {"a": (4, 3), "b": (4, 5)}
    assert all(each.shape[0] == 4 and each.ndim == 4 for each in tapped.maps.values())


def test_forward__token_maps_keep_their_place() -> None:
    """A change in one corner of the image shows most in the same corner of a transformer's map."""
    model = network("test_vit", 64, img_size=(64, 64))
    images = torch.full((1, 3, 64, 64), 0.5)
    changed = images.clone()
    changed[:, :, :16, 48:] = 1.0  # top right
    with torch.no_grad():
        difference = (model(images, ("L4",)).maps["L4"] - model(changed, ("L4",)).maps["L4"]).abs().sum(dim=1)[0]
    assert divmod(int(difference.argmax()), 4) == (0, 3)


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [("mixer_s32_224", (512, 2, 2)), ("mvitv2_tiny", (768, 2, 2)), ("xcit_nano_12_p16_224", (128, 4, 4))],
)
def test_forward__tokens_lie_on_the_grid_of_the_last_stage(architecture: str, shape: tuple[int, ...]) -> None:
    """Each token is the last norm of what the last block says of its place; a class token comes first in XCiT."""
    kwargs = {} if architecture.startswith("xcit") else {"img_size": 64}
    model = network(architecture, 64, **kwargs)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        tokens = model(images, ("L2",)).maps["L2"]
        _, (last,) = model.backbone.forward_intermediates(model.normalise(images), indices=1, output_fmt="NCHW")
        expected = model.backbone.norm(last.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert tokens.shape[1:] == shape
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4)


def test_forward__without_tokens_for_the_grid_the_last_map_is_taken() -> None:
    """PiT ends with its class token alone, CoaT with the tokens of several branches."""
    with torch.no_grad():
        for architecture, shape in (("pit_ti_224", (256, 2, 2)), ("coat_tiny", (152, 2, 2))):
            model = network(architecture, 64, img_size=64)
            images = torch.rand(1, 3, 64, 64)
            found = model(images, ("L2",)).maps["L2"]
            _, (last,) = model.backbone.forward_intermediates(model.normalise(images), indices=1, output_fmt="NCHW")
            assert found.shape[1:] == shape
            assert torch.equal(found, last)


def test_forward__branches_of_their_own_widths_are_no_map() -> None:
    with torch.device("meta"):
        model = network("crossvit_tiny_240", 240)
        assert tap_shapes(model, ("L1", "L3")) == {"L1": (288,), "L3": (192, 14, 14)}
        with pytest.raises(UserError, match="level L2: the last map of timm's CrossVit holds only 192 of its 288"):
            tap_shapes(model, ("L2",))


def test_network__normalises_and_resizes_itself() -> None:
    model = network("test_resnet")
    images = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    expected = (images - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(model.normalise(images), expected)
    assert model.normalise(torch.rand(2, 3, 48, 40)).shape == (2, 3, 32, 32)


def test_network__same_seed_same_weights() -> None:
    first, second = network("test_resnet", latent=8), network("test_resnet", latent=8)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_network__unknown_architecture_is_a_user_error() -> None:
    with pytest.raises(UserError, match="resnet_of_dreams"):
        network("resnet_of_dreams")
    with pytest.raises(UserError, match="no_such_argument"):
        network("test_resnet", no_such_argument=1)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"features_only": True},
        {"num_classes": 5},
        {"num_classes": None},
        {"pretrained": True},
        {"pretrained_cfg": {"url": "http://127.0.0.1:9/weights.pth"}},
        {"pretrained_cfg_overlay": {"file": "weights.pth"}},
        {"checkpoint_path": "weights.pth"},
        {"cache_dir": "cache"},
        {"in_chans": 1},
        {"in_chans": 3},
        {"global_pool": ""},
        {"out_indices": [1, 2]},
        {"device": "cuda"},
        {"drop_rate": math.inf},
        {"drop_rate": dt.date(2026, 1, 1)},
    ],
    ids=str,
)
def test_config__arguments_that_are_not_of_the_architecture(tiny: dict[str, Any], kwargs: dict[str, Any]) -> None:
    tiny["models"]["resnet"]["kwargs"] = kwargs
    with pytest.raises(UserError, match=r"^config: models\.resnet\.kwargs: .*expected.*; given: ") as error:
        load_config(tiny)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["hf-hub:timm/resnet18.a1_in1k", "local-dir:/data", "timm/resnet18", "", "../resnet18"]
)
def test_config__architectures_that_lie_elsewhere(tiny: dict[str, Any], name: str) -> None:
    tiny["models"]["resnet"]["architecture"] = name
    with pytest.raises(UserError, match=r"^config: models\.resnet\.architecture: expected the name of a timm model"):
        load_config(tiny)


DATASET = DatasetInfo("d", ("a", "b"), Samples(image_size=(32, 32)), (0.5,) * 3, (0.5,) * 3, {})


@pytest.mark.parametrize(
    ("architecture", "kwargs"),
    [
        ("test_resnet", {"depth": 3}),
        ("test_resnet", {"drop_rate": "much"}),
        ("test_resnet", {"drop_rate": 7}),
        ("test_resnet", {"act_layer": "no_such_activation"}),
        ("test_resnet", {"global_pool": "no_such_pooling"}),
        ("test_resnet", {"output_stride": 5}),
        ("test_byobnet", {"fixed_input_size": True}),
        ("test_efficientnet", {"channel_multiplier": "x"}),
        ("vit_tiny_patch16_224", {"img_size": 64}),  # other than the images
        ("test_vit", {"patch_size": 0}),
        ("test_convnext", {"dims": [8]}),
    ],
)
def test_measure_network__arguments_that_timm_refuses(architecture: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^models\.kwargs: ") as error:
        measure_network(ModelSpec(architecture=architecture, kwargs=kwargs), [DATASET])
    assert "\n" not in str(error.value)


def test_resample__averages_down_and_keeps_constants() -> None:
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    torch.testing.assert_close(resample(maps, (2, 2)), torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))
    torch.testing.assert_close(resample(torch.ones(1, 2, 3, 3), (5, 7)), torch.ones(1, 2, 5, 7))
    assert resample(maps, (4, 4)) is maps


def test_timm__lists_the_architectures_of_the_paper() -> None:
    for name in ("resnet18", "efficientnet_b0", "seresnext26d_32x4d", "convnextv2_tiny", "fastvit_sa24"):
        assert timm.is_model(name)
