"""Checkpoints with exactly the names and shapes that MMAction2 and mit-han-lab give a ResNet-50 for Kinetics-400."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kd.common.errors import UserError
from kd.data.modalities.clip import Samples
from kd.data.modalities.image import Samples as Images
from kd.data.packed import DatasetInfo
from kd.models.network import Network
from kd.models.spec import ModelSpec
from kd.models.weights import export_student, new_network, save_network

KINETICS = tuple(f"class{number:03}" for number in range(400))
Entry = tuple[str, str, str, tuple[int, ...]]
"""Name in MMAction2, by mit-han-lab and in timm, and shape."""


def convolution(place: str, timm: str, shape: tuple[int, ...], *, shifted: bool = False) -> Iterator[Entry]:
    """And the norm behind it; `place` is followed by a number, or is downsample."""
    net = ".net" if shifted else ""
    yield f"{place}.conv{net}.weight", f"{timm}{net}.weight", f"{timm}.weight", shape
    norm = timm.replace("downsample.0", "downsample.1").replace("conv", "bn")
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{place}.bn.{part}", f"{norm}.{part}", f"{norm}.{part}", shape[:1]
    yield f"{place}.bn.num_batches_tracked", f"{norm}.num_batches_tracked", f"{norm}.num_batches_tracked", ()


def resnet50(*, shifted: bool) -> Iterator[Entry]:
    yield from convolution("conv1", "conv1", (64, 3, 7, 7))
    incoming = 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for block in range(blocks):
            place = f"layer{stage}.{block}"
            yield from convolution(f"{place}.conv1", f"{place}.conv1", (width, incoming, 1, 1), shifted=shifted)
            yield from convolution(f"{place}.conv2", f"{place}.conv2", (width, width, 3, 3))
            yield from convolution(f"{place}.conv3", f"{place}.conv3", (4 * width, width, 1, 1))
            if block == 0:
                shape = (4 * width, incoming, 1, 1)
                yield from convolution(f"{place}.downsample", f"{place}.downsample.0", shape)
            incoming = 4 * width


def entries(program: str, *, shifted: bool) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name there and in timm, and shape."""
    for mmaction, mit, timm, shape in resnet50(shifted=shifted):
        yield f"backbone.{mmaction}" if program == "mmaction" else f"module.base_model.{mit}", timm, shape
    head = "cls_head.fc_cls" if program == "mmaction" else "module.new_fc"
    yield f"{head}.weight", "fc.weight", (400, 2048)
    yield f"{head}.bias", "fc.bias", (400,)


def constant(number: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor whose value tells which it is, and that weighs nothing in a file."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(number)
    return torch.full((1,), 1 + number / 64).expand(shape)


def write(path: Path, program: str, *, shifted: bool) -> dict[str, Tensor]:
    """A checkpoint as such a program publishes it; its weights under the names of timm."""
    made = {
        (theirs, ours): constant(number, ours, shape)
        for number, (theirs, ours, shape) in enumerate(entries(program, shifted=shifted))
    }
    assert len(made) == 320
    content: dict[str, Any] = {"state_dict": {theirs: value for (theirs, _), value in made.items()}}
    if program == "mmaction":
        content["meta"] = {"mmcv_version": "1.3.9", "config": "model = dict(type='Recognizer2D')", "CLASSES": None}
    else:
        content |= {"epoch": 50, "arch": "resnet50", "best_prec1": torch.tensor(71.2)}
    torch.save(content, path)
    return {ours: value for (_, ours), value in made.items()}


def network(backbone: str, path: Path, classes: tuple[str, ...] = KINETICS, **options: Any) -> Network:
    samples = Images(image_size=32) if backbone == "timm" else Samples(image_size=32, segments=2)
    info = DatasetInfo("kinetics", classes, samples, (0.5,) * 3, (0.5,) * 3, {})
    weights = {"path": str(path)}
    spec = {"backbone": backbone, "architecture": "resnet50", "weights": weights} | options
    return new_network(ModelSpec.model_validate(spec), [info], trains=len(classes) != 400)


@pytest.mark.parametrize(
    ("program", "backbone"), [("mmaction", "tsn"), ("mmaction", "tsm"), ("mit", "tsm"), ("mmaction", "timm")]
)
def test_checkpoint__every_weight_comes_to_its_place(program: str, backbone: str, tmp_path: Path) -> None:
    expected = write(tmp_path / "k400.pth", program, shifted=backbone == "tsm")
    made = network(backbone, tmp_path / "k400.pth")  # not to be trained, so the classifier must have come along
    found = {**made.backbone.state_dict()}
    found |= {f"fc.{name}": value for name, value in made.heads["kinetics"].state_dict().items()}
    assert found.keys() == expected.keys()
    assert [name for name, value in found.items() if not torch.equal(value, expected[name])] == []
    assert made.config.mean == (0.485, 0.456, 0.406)  # as both programs normalise


def test_checkpoint__of_other_classes_the_backbone_is_taken(tmp_path: Path) -> None:
    expected = write(tmp_path / "k400.pth", "mit", shifted=False)
    made = network("tsn", tmp_path / "k400.pth", ("a", "b"))
    assert torch.equal(made.backbone.state_dict()["layer4.2.bn3.bias"], expected["layer4.2.bn3.bias"])
    assert made.heads["kinetics"].weight.shape == (2, 2048)
    with pytest.raises(UserError, match="hold no classifier"):
        network("tsn", tmp_path / "k400.pth", latent_dim=8)


@pytest.mark.parametrize("program", ["mmaction", "mit"])
@pytest.mark.parametrize(("theirs", "ours"), [("tsm", "tsn"), ("tsm", "timm"), ("tsn", "tsm")])
def test_checkpoint__of_the_other_backbone_is_refused(program: str, theirs: str, ours: str, tmp_path: Path) -> None:
    write(tmp_path / "k400.pth", program, shifted=theirs == "tsm")
    expected = {"tsn": "timm or tsn", "timm": "timm or tsn", "tsm": "timm or tsm"}[ours]
    message = rf"k400\.pth: holds weights of backbone {theirs}, with which {ours} computes .* expected .* {expected}$"
    with pytest.raises(UserError, match=message):
        network(ours, tmp_path / "k400.pth")


@pytest.mark.parametrize("change", ["backbone.layer2.net.weight", "backbone.layer3.0.block.g.conv.weight"])
def test_checkpoint__of_another_variant_does_not_fit(change: str, tmp_path: Path) -> None:
    """With pooling over time, and with non-local blocks."""
    write(tmp_path / "k400.pth", "mmaction", shifted=False)
    content = torch.load(tmp_path / "k400.pth", weights_only=True)
    torch.save(content | {"state_dict": content["state_dict"] | {change: torch.ones(1)}}, tmp_path / "k400.pth")
    with pytest.raises(UserError, match="does not fit the architecture: has besides"):
        network("tsn", tmp_path / "k400.pth")


SMALL = {"architecture": "test_resnet"}


@pytest.mark.parametrize(
    ("theirs", "ours", "fits"),
    [
        *(("timm", "tsn", True), ("tsn", "timm", True), ("timm", "tsm", True), ("tsm", "tsm", True)),
        *(("tsm", "tsn", False), ("tsm", "timm", False), ("tsn", "tsm", False)),
    ],
)
@pytest.mark.parametrize("file", ["network.safetensors", "model.safetensors"])
def test_stored__networks_of_the_other_backbone_are_refused(
    theirs: str, ours: str, fits: bool, file: str, tmp_path: Path
) -> None:
    samples = {name: Samples(image_size=32, segments=2) for name in ("tsn", "tsm")} | {"timm": Images(image_size=32)}
    infos = {name: DatasetInfo("d", ("a", "b"), each, (0.5,) * 3, (0.5,) * 3, {}) for name, each in samples.items()}
    source = new_network(ModelSpec.model_validate(SMALL | {"backbone": theirs}), [infos[theirs]])
    save_network(source, tmp_path)
    export_student(source, infos[theirs], tmp_path)
    spec = ModelSpec.model_validate(SMALL | {"backbone": ours, "weights": {"path": str(tmp_path / file)}})
    if not fits:
        with pytest.raises(UserError, match=f"{file}: holds weights of backbone {theirs}, with which {ours}"):
            new_network(spec, [infos[ours]])
        return
    made = new_network(spec, [infos[ours]], trains=False)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in made.state_dict().items())


def test_checkpoint__without_what_is_around_it(tmp_path: Path) -> None:
    """As safetensors, and the backbone alone."""
    expected = write(tmp_path / "k400.pth", "mmaction", shifted=True)
    content = torch.load(tmp_path / "k400.pth", weights_only=True)["state_dict"]
    backbone = {name: value.contiguous() for name, value in content.items() if name.startswith("backbone.")}
    save_file(backbone, tmp_path / "backbone.safetensors")
    made = network("tsm", tmp_path / "backbone.safetensors", ("a", "b"))
    assert all(torch.equal(value, expected[name]) for name, value in made.backbone.state_dict().items())
