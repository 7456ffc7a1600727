"""TSN and TSM against loops over frames, on the networks of timm that they are made of."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from kd.common.errors import UserError
from kd.data.modalities.clip import Samples
from kd.data.modalities.image import Samples as Images
from kd.data.packed import DatasetInfo
from kd.models.backbones.tsm import first_convolutions, shift
from kd.models.network import Network
from kd.models.spec import ModelSpec
from kd.models.weights import Exported, export_student, load_network, new_network, save_network
from kd.planning.forecast import measure_network
from tests.documents import execute, fenced

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
LEVELS = ("L2", "L3", "L4")


def info(segments: int = 4) -> DatasetInfo:
    return DatasetInfo("toy", ("x", "y", "z"), Samples(image_size=(32, 40), segments=segments), MEAN, STD, {})


def new(backbone: str, dataset: DatasetInfo | None = None, **options: Any) -> Network:
    """A network in which all parameters do something; timm begins with residual branches that are zero."""
    torch.manual_seed(0)
    spec = ModelSpec.model_validate({"backbone": backbone, "architecture": "test_resnet"} | options)
    network = new_network(spec, [dataset or info()])
    generator = torch.Generator().manual_seed(1)
    for each in network.parameters():
        each.data += 0.1 * torch.randn(each.shape, generator=generator)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator))  # type: ignore[union-attr]
            norm.running_var.copy_(1 + torch.rand(norm.num_features, generator=generator))  # type: ignore[union-attr]
    return network.eval()


def clips(frames: int = 4, count: int = 2) -> Tensor:
    return torch.rand(count, frames, 3, 32, 40, generator=torch.Generator().manual_seed(2))


def slow_shift(frames: Tensor, segments: int, shift_div: int) -> Tensor:
    """Channel by channel."""
    shifted, fold = torch.zeros_like(frames), frames.shape[1] // shift_div
    for row in range(len(frames)):
        view, time = divmod(row, segments)
        for channel in range(frames.shape[1]):
            source = time + 1 if channel < fold else time - 1 if channel < 2 * fold else time
            if 0 <= source < segments:
                shifted[row, channel] = frames[view * segments + source, channel]
    return shifted


@pytest.mark.parametrize(
    ("segments", "channels", "shift_div"), [(4, 16, 8), (3, 9, 2), (2, 7, 3), (6, 8, 9), (1, 8, 4)]
)
def test_shift__is_that_of_a_loop(segments: int, channels: int, shift_div: int) -> None:
    frames = torch.randn(2 * segments, channels, 3, 5)
    expected = slow_shift(frames, segments, shift_div)
    assert torch.equal(shift(frames, segments, shift_div), expected)
    last = frames.contiguous(memory_format=torch.channels_last)
    found = shift(last, segments, shift_div)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


def slow_tsm(model: Any, frames: Tensor, segments: int) -> Tensor:
    """The vector of each frame: residual blocks by hand, whose branch alone sees shifted channels."""
    x = model.maxpool(model.act1(model.bn1(model.conv1(frames))))
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        for block in stage:
            branch = nn.functional.conv2d(
                slow_shift(x, segments, 8), block.conv1.weight, None, block.conv1.stride, block.conv1.padding
            )
            branch = block.conv2(block.act1(block.bn1(branch)))
            if hasattr(block, "conv3"):
                branch = block.conv3(block.act2(block.bn2(branch)))
                branch = block.bn3(branch)
            else:
                branch = block.bn2(branch)
            x = (branch + (x if block.downsample is None else block.downsample(x))).relu()
    vectors: Tensor = x.mean(dim=(2, 3))
    return vectors


@torch.no_grad()
def test_tsm__shifts_within_residual_branches_of_each_view() -> None:
    network = new("tsm")
    plain = timm.create_model("test_resnet", num_classes=0).eval()
    plain.load_state_dict(network.backbone.state_dict())  # names are those of timm
    for frames in (4, 8):  # one view and two
        inputs = clips(frames)
        each = slow_tsm(plain, network.normalise(inputs).flatten(0, 1), 4)
        torch.testing.assert_close(network(inputs).vector, each.reshape(2, frames, -1).mean(dim=1))


@torch.no_grad()
def test_tsn__vectors_maps_and_logits_are_means_over_the_frames() -> None:
    network = new("tsn", latent_dim=7)
    image = new("timm", DatasetInfo("toy", ("x", "y", "z"), Images(image_size=(32, 40)), MEAN, STD, {}), latent_dim=7)
    image.load_state_dict(network.state_dict())
    inputs = clips()
    found = network(inputs, LEVELS)
    frames = [image(inputs[:, time], LEVELS) for time in range(4)]
    torch.testing.assert_close(found.vector, torch.stack([each.vector for each in frames]).mean(dim=0))
    torch.testing.assert_close(found.logits["toy"], torch.stack([each.logits["toy"] for each in frames]).mean(dim=0))
    for level in LEVELS:
        torch.testing.assert_close(found.maps[level], torch.stack([each.maps[level] for each in frames]).mean(dim=0))
    torch.testing.assert_close(network(inputs).vector, found.vector)


@torch.no_grad()
def test_tsn__of_fewer_segments_looks_at_those_in_the_middle() -> None:
    inputs = clips(8)
    whole = new("tsn")
    for segments, seen in ((1, [2, 6]), (2, [1, 3, 5, 7])):
        fewer = new("tsn", kwargs={"segments": segments})
        fewer.load_state_dict(whole.state_dict())
        prepared = whole.normalise(inputs)
        expected = torch.stack([whole.backbone(prepared[:, time]) for time in seen]).mean(dim=0)
        torch.testing.assert_close(fewer(inputs).vector, expected)


@torch.no_grad()
def test_tsm__without_a_shift_is_tsn_and_with_it_is_not() -> None:
    tsn, inputs = new("tsn"), clips()
    for shift_div in (8, 4):
        tsm = new("tsm", kwargs={"shift_div": shift_div})
        tsm.load_state_dict(tsn.state_dict())
        assert not torch.allclose(tsm(inputs).vector, tsn(inputs).vector, atol=1e-5)
        for conv in first_convolutions(tsm.backbone):
            (hook,) = conv._forward_pre_hooks
            conv._forward_pre_hooks[hook] = lambda _, frames: shift(frames[0], 4, 10_000)
        assert torch.allclose(tsm(inputs).vector, tsn(inputs).vector, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["tsn", "tsm"])
def test_clips__neither_views_nor_clips_see_each_other(backbone: str) -> None:
    network, inputs = new(backbone), clips(8, 3)
    together = network(inputs).vector
    views = [network(inputs[:, first : first + 4]).vector for first in (0, 4)]
    torch.testing.assert_close(together, (views[0] + views[1]) / 2)
    torch.testing.assert_close(together[1:2], network(inputs[1:2]).vector)
    assert network(inputs[:0]).vector.shape == (0, 96)


@pytest.mark.parametrize(
    ("backbone", "kwargs", "seen"),
    [("tsn", {}, [0, 1, 2, 3]), ("tsm", {}, [0, 1, 2, 3]), ("tsn", {"segments": 1}, [2])],
)
def test_clips__gradients_reach_the_frames_that_are_looked_at(
    backbone: str, kwargs: dict[str, Any], seen: list[int]
) -> None:
    inputs = clips().requires_grad_()
    new(backbone, kwargs=kwargs)(inputs, ("L3",)).logits["toy"].sum().backward()
    assert inputs.grad is not None
    reached = inputs.grad.abs().amax(dim=(0, 2, 3, 4)) > 0
    assert reached.nonzero().flatten().tolist() == seen


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["tsn", "tsm"])
def test_clips__a_copy_or_compiled_network_computes_the_same(backbone: str) -> None:
    network, inputs = new(backbone), clips()
    expected = network(inputs, ("L2",))
    copies = [copy.deepcopy(network), timm.layers.convert_sync_batchnorm(copy.deepcopy(network))]
    for other in (*copies, torch.compile(network, backend="eager", fullgraph=True)):
        found = other(inputs, ("L2",))
        torch.testing.assert_close(found.vector, expected.vector)
        torch.testing.assert_close(found.maps["L2"], expected.maps["L2"])


@pytest.mark.parametrize(("architecture", "count"), [("resnet18", 8), ("resnet50", 16), ("resnet101", 2 + 2 + 12 + 2)])
def test_tsm__deep_networks_shift_in_every_second_block(architecture: str, count: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(architecture)
    found = first_convolutions(model)
    assert len(found) == count
    names = [name for name, each in model.named_modules() if any(each is one for one in found)]
    assert all(name.endswith(".conv1") for name in names)
    assert {f"layer{stage}.0.conv1" for stage in (1, 2, 3, 4)} <= {*names}
    assert ("layer3.1.conv1" in names) == (architecture != "resnet101")


@torch.no_grad()
@pytest.mark.parametrize(
    ("backbone", "kwargs", "latent_dim"),
    [("tsn", {}, None), ("tsn", {"segments": 1}, 5), ("tsm", {}, 5), ("tsm", {"segments": 2, "shift_div": 4}, None)],
)
def test_export__is_a_timm_model_of_frames_that_the_document_uses(
    backbone: str, kwargs: dict[str, Any], latent_dim: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("results/distill_student/mlfd-for-actions-seed0/KEY")
    folder.mkdir(parents=True)
    network, inputs = new(backbone, kwargs=kwargs, latent_dim=latent_dim), clips(8)
    save_network(network, folder)
    export_student(network, info(), folder)
    expected = network(inputs).logits["toy"]
    for same in (Exported(network, "toy"), Exported(load_network(folder), "toy")):
        torch.testing.assert_close(same.eval()(inputs), expected, rtol=1e-4, atol=1e-4)
    (code,) = (block for block in fenced("python") if "shift_div" in block)
    found = execute(code, timm=timm, torch=torch, clips=inputs)["logits"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "test_resnet"
    assert config["backbone"] == backbone
    assert config["segments"] == kwargs.get("segments", 4)
    assert config.get("shift_div") == (kwargs.get("shift_div", 8) if backbone == "tsm" else None)


@pytest.mark.parametrize("backbone", ["timm", "tsn"])
def test_drop_rate__drops_pooled_features_while_training(backbone: str) -> None:
    samples = Images(image_size=(32, 40)) if backbone == "timm" else None
    dataset = None if samples is None else DatasetInfo("toy", ("x", "y", "z"), samples, MEAN, STD, {})
    network = new(backbone, dataset, kwargs={"drop_rate": 0.5} | ({} if samples else {"segments": 1}))
    inputs = clips() if samples is None else clips()[:, 0]
    for module in network.modules():
        module.training = module is network.backbone  # so that batch norms do as in evaluation
    for levels in ((), ("L2",)):
        dropped, whole = network(inputs, levels).vector, copy.deepcopy(network).eval()(inputs, levels).vector
        kept = dropped != 0
        assert 0.3 < kept[whole != 0].float().mean() < 0.7
        torch.testing.assert_close(dropped[kept], 2 * whole[kept])


@pytest.mark.parametrize(
    ("options", "segments", "message"),
    [
        ({"backbone": "tsm", "architecture": "test_convnext"}, 4, r"models: backbone tsm shifts .*ConvNeXt does not"),
        ({"backbone": "tsm", "architecture": "test_vit"}, 4, r"models: backbone tsm shifts .* expected a ResNet"),
        ({"backbone": "tsm"}, 1, r"models\.kwargs\.segments: given 1: .*greater than or equal to 2"),
        ({"backbone": "tsm", "kwargs": {"segments": 1}}, 4, r"models\.kwargs\.segments: given 1: .*"),
        ({"backbone": "tsm", "kwargs": {"shift_div": 33}}, 4, r"models\.kwargs\.shift_div: 33, expected at most 32"),
        ({"backbone": "tsm", "kwargs": {"shift_div": 1}}, 4, r"models\.kwargs\.shift_div: given 1: "),
        ({"backbone": "tsn", "kwargs": {"segments": 3}}, 4, r"segments: 3, expected a divisor of the 4 segments of"),
        ({"backbone": "tsn", "kwargs": {"segments": "x"}}, 4, r"models\.kwargs\.segments: given 'x': .*integer"),
        ({"backbone": "tsn", "kwargs": {"shift_div": 8}}, 4, r"timm cannot build test_resnet with \{'shift_div': 8\}"),
        ({"backbone": "tsn", "kwargs": {"frame_stride": 2}}, 4, r"timm cannot build test_resnet .*frame_stride"),
    ],
)
def test_clips__what_cannot_be_is_said_before_any_job(options: dict[str, Any], segments: int, message: str) -> None:
    spec = ModelSpec.model_validate({"architecture": "test_resnet"} | options)
    with pytest.raises(UserError, match=message) as error:
        measure_network(spec, [info(segments)])
    assert "\n" not in str(error.value)


def test_clips__of_other_frames_than_views_have() -> None:
    for network in (new("tsm"), new("tsn", kwargs={"segments": 2})):
        with pytest.raises(UserError, match=r"clips of 6 frames, but the network takes 4 in a view"):
            network(clips(6))
