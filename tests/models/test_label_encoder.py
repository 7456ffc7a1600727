"""The label-wise encoder against a reading of its formulas by loops, and in networks of all kinds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd.common.errors import UserError
from kd.data.modalities.image import Samples
from kd.data.packed import DatasetInfo
from kd.models.joint import JointConfig, JointTeacher
from kd.models.network import LabelClassifier, LabelEncoder, Network, freeze, tap_shapes
from kd.models.spec import LabelEncoderOptions, Level, ModelSpec, NetworkConfig
from kd.models.weights import Exported, export_student, load_network, save_network
from kd.planning.forecast import measure_network
from tests.models.test_network import SWIN

OPTIONS = LabelEncoderOptions(width=16, heads=2, hidden=12)
CLASSES = {"a": 3, "type": 5}  # nn.ModuleDict has a name for itself
INFO = DatasetInfo("a", ("x", "y", "z"), Samples(image_size=(32, 32)), (0.5,) * 3, (0.2,) * 3, {}, task="multi_label")


def network(architecture: str = "test_resnet", size: int = 32, **kwargs: Any) -> Network:
    torch.manual_seed(0)
    return Network(
        NetworkConfig(
            architecture=architecture,
            kwargs=kwargs,
            latent_dim=None,
            label_encoder=OPTIONS,
            input_size=(size, size),
            mean=(0.5, 0.4, 0.3),
            std=(0.2, 0.3, 0.4),
            heads=CLASSES,
        )
    ).eval()


def shaken(module: nn.Module) -> None:
    """No parameter stays where a mistake would not show, such as biases at 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))


def slow_linear(x: list[float], weight: Tensor, bias: Tensor) -> list[float]:
    rows = zip(weight.tolist(), bias.tolist(), strict=True)
    return [sum(w * each for w, each in zip(row, x, strict=True)) + b for row, b in rows]


def slow_norm(x: list[float], norm: nn.Module) -> list[float]:
    assert isinstance(norm, nn.LayerNorm)
    mean = sum(x) / len(x)
    scale = math.sqrt(sum((each - mean) ** 2 for each in x) / len(x) + norm.eps)
    by_channel = zip(x, norm.weight.tolist(), norm.bias.tolist(), strict=True)
    return [(each - mean) / scale * weight + bias for each, weight, bias in by_channel]


def slow_relu(x: list[float]) -> list[float]:
    return [max(each, 0.0) for each in x]


def slow_sum(x: list[float], y: list[float]) -> list[float]:
    return [a + b for a, b in zip(x, y, strict=True)]


def slow_attention(attention: nn.MultiheadAttention, query: list[float], memory: list[list[float]]) -> list[float]:
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q = slow_linear(query, weights[0], biases[0])
    keys = [slow_linear(token, weights[1], biases[1]) for token in memory]
    values = [slow_linear(token, weights[2], biases[2]) for token in memory]
    size = len(query) // attention.num_heads
    attended: list[float] = []
    for head in range(attention.num_heads):
        own = range(head * size, (head + 1) * size)
        scores = [math.exp(sum(q[i] * key[i] for i in own) / math.sqrt(size)) for key in keys]
        shares = [score / sum(scores) for score in scores]
        attended += [sum(share * value[i] for share, value in zip(shares, values, strict=True)) for i in own]
    return slow_linear(attended, attention.out_proj.weight, attention.out_proj.bias)


def slow_embedding(encoder: LabelEncoder, tokens: list[list[float]], query: list[float]) -> list[float]:
    """Of one image (N tokens of C channels) and one query."""
    project, first, last = encoder.project[0], encoder.feed_forward[0], encoder.feed_forward[3]
    assert isinstance(project, nn.Linear)
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    memory = [slow_relu(slow_linear(token, project.weight, project.bias)) for token in tokens]
    q = slow_norm(slow_sum(query, query), encoder.norms[0])
    q = slow_norm(slow_sum(q, slow_attention(encoder.attention, q, memory)), encoder.norms[1])
    fed = slow_linear(slow_relu(slow_linear(q, first.weight, first.bias)), last.weight, last.bias)
    return slow_norm(slow_sum(q, fed), encoder.norms[2])


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_encoder__equals_slow_reference(heads: int) -> None:
    torch.manual_seed(0)
    encoder = LabelEncoder(6, LabelEncoderOptions(width=16, heads=heads, hidden=12)).double().eval()
    shaken(encoder)
    maps, queries = torch.randn(2, 6, 2, 3, dtype=torch.float64), torch.randn(4, 16, dtype=torch.float64)
    expected = [
        [
            slow_embedding(encoder, [image[:, row, column].tolist() for row in range(2) for column in range(3)], each)
            for each in queries.tolist()
        ]
        for image in maps
    ]
    torch.testing.assert_close(encoder(maps, queries), torch.tensor(expected, dtype=torch.float64))


def test_encoder__dropout_is_at_rest_outside_of_training() -> None:
    encoder = LabelEncoder(6, LabelEncoderOptions(width=16, heads=2, hidden=12, dropout=0.5))
    maps, queries = torch.randn(2, 6, 2, 2), torch.randn(4, 16)
    assert not torch.equal(encoder(maps, queries), encoder(maps, queries))
    encoder.eval()
    assert torch.equal(encoder(maps, queries), encoder(maps, queries))


@pytest.mark.parametrize("name", ["queries", "weight", "bias"])
def test_classifier__each_class_is_by_itself(name: str) -> None:
    torch.manual_seed(0)
    classifier = LabelClassifier(6, CLASSES, OPTIONS).eval()
    maps = torch.randn(2, 6, 2, 2)
    before, _ = classifier(maps)
    with torch.no_grad():
        changing = classifier.state_dict()[f"by_dataset.on_type.{name}"][2]
        changing += torch.randn_like(changing)
    after, embeddings = classifier(maps)
    changed = before["type"] != after["type"]
    assert changed.tolist() == [[False, False, True, False, False]] * 2
    assert torch.equal(before["a"], after["a"])
    state = classifier.state_dict()
    for label, (weight, bias) in enumerate(
        zip(state["by_dataset.on_type.weight"], state["by_dataset.on_type.bias"], strict=True)
    ):
        torch.testing.assert_close(after["type"][:, label], embeddings["type"][:, label] @ weight + bias)


def test_queries__are_stored_and_never_trained() -> None:
    model = network().train()
    queries = {name for name in model.state_dict() if name.endswith("queries")}
    assert queries == {f"labels.by_dataset.on_{dataset}.queries" for dataset in CLASSES}
    assert not queries & {name for name, _ in model.named_parameters()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    features = model(torch.rand(4, 3, 32, 32))
    sum(each.square().sum() for each in features.logits.values()).backward()
    optimizer.step()
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in queries)
    assert all(
        not torch.equal(before[name], after[name]) for name, _ in model.named_parameters() if name.startswith("labels")
    )


@pytest.mark.parametrize(
    ("architecture", "size", "kwargs"),
    [
        ("test_resnet", 32, {}),
        ("test_convnext", 32, {}),  # a norm of the pooled features
        ("mobilenetv3_small_050", 32, {}),  # which get wider there
        ("test_vit", 32, {"img_size": 32}),
        ("swin_tiny_patch4_window7_224", 32, SWIN | {"img_size": (32, 32)}),
        ("mixer_s32_224", 64, {"img_size": 64}),  # tokens, whose grid it does not tell
        ("pit_ti_224", 64, {"img_size": 64}),  # ends with a class token alone
        ("coat_tiny", 64, {"img_size": 64}),  # ends with the tokens of several branches
    ],
)
def test_network__embeddings_train_all_kinds_of_backbones(architecture: str, size: int, kwargs: dict[str, Any]) -> None:
    model = network(architecture, size, **kwargs)
    features = model(torch.rand(2, 3, size, size))
    for dataset, classes in CLASSES.items():
        assert features.logits[dataset].shape == (2, classes)
        assert features.label_embeddings[dataset].shape == (2, classes, 16)
    sum(each.square().sum() for each in features.logits.values()).backward()
    # None without a gradient, for which several processes would wait, though it be 0 in what the logits do not see.
    gradients = {name: each.grad for name, each in model.named_parameters()}
    assert [name for name, each in gradients.items() if each is None or not each.isfinite().all()] == []
    of_backbone = [each for name, each in gradients.items() if name.startswith("backbone") and each is not None]
    assert sum(bool(each.any()) for each in of_backbone) > 0.5 * len(of_backbone)
    first = next(model.backbone.parameters())
    assert first.grad is not None
    assert first.grad.any()


def test_network__logits_are_those_of_the_last_map_alone() -> None:
    model = network("test_convnext")
    assert model.labels is not None
    with torch.no_grad():
        features = model(torch.rand(2, 3, 32, 32), ("L2",))
        logits, embeddings = model.labels(features.maps["L2"])
    for dataset in CLASSES:
        torch.testing.assert_close(features.logits[dataset], logits[dataset])
        torch.testing.assert_close(features.label_embeddings[dataset], embeddings[dataset])
    assert tap_shapes(model, ("L1", "logits", "label_embeddings"), "type") == {
        "L1": (64,),
        "logits": (5,),
        "label_embeddings": (5, 16),
    }


def test_measure_network__an_encoder_needs_a_map_of_all_features() -> None:
    model = ModelSpec(architecture="crossvit_tiny_240", label_encoder=OPTIONS, input_size=(240, 240))
    dataset = DatasetInfo("a", ("x",), Samples(image_size=(32, 32)), (0.5,) * 3, (0.5,) * 3, {})
    message = r"^models: crossvit_tiny_240: level L2: the last map of timm's CrossVit holds only 192 of its 288"
    with pytest.raises(UserError, match=message):
        measure_network(model, [dataset])


def test_save_network__round_trip(tmp_path: Path) -> None:
    model = network()
    save_network(model, tmp_path)
    torch.manual_seed(5)  # the queries come from the file
    again = load_network(tmp_path).eval()
    assert again.config == model.config
    images = torch.rand(2, 3, 32, 32)
    for dataset in CLASSES:
        assert torch.equal(again(images).logits[dataset], model(images).logits[dataset])


def test_export_student__is_the_network_itself(tmp_path: Path) -> None:
    model = network()
    images = torch.rand(2, 3, 32, 32)
    exported = Exported(model, "a")
    assert exported.plain is None
    assert torch.equal(exported(images), model(images).logits["a"])
    export_student(model, INFO, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["label_names"], config["task"]) == (["x", "y", "z"], "multi_label")


def joint(level: Level, dropout: float = 0.0) -> JointTeacher:
    torch.manual_seed(0)
    channels: list[int] = {"L2": [9], "L3": [4, 9], "L4": [3, 4, 9]}[level]
    config = JointConfig(
        level=level,
        channels=[7, 5],
        grid=(8, 8),
        map_channels=channels,
        width=6,
        dropout=dropout,
        heads=CLASSES,
        label_encoder=OPTIONS,
    )
    return JointTeacher(config)


def embeddings_of_teachers(level: Level) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [{level: torch.randn(4, channels, 8, 8, generator=generator)} for channels in (7, 5)]


@pytest.mark.parametrize("level", ["L2", "L3", "L4"])
def test_joint_teacher__encodes_the_last_fused_map(level: Level) -> None:
    model = freeze(joint(level, dropout=0.9))
    assert model.labels is not None
    features = model(embeddings_of_teachers(level))
    assert torch.equal(features.vector, features.maps["L2"].mean(dim=(2, 3)))
    logits, embeddings = model.labels(features.maps["L2"])
    for dataset, classes in CLASSES.items():
        assert features.logits[dataset].shape == (4, classes)
        assert torch.equal(features.logits[dataset], logits[dataset])
        made = model(embeddings_of_teachers(level)).arrays(dataset)
        assert torch.equal(made["label_embeddings"], embeddings[dataset])
        assert made["label_embeddings"].shape == (4, classes, 16)
        assert torch.equal(made["logits"], logits[dataset])


@pytest.mark.parametrize("level", ["L2", "L4"])
def test_joint_teacher__every_parameter_trains(level: Level) -> None:
    model = joint(level).train()
    features = model(embeddings_of_teachers(level))
    sum(each.square().sum() for each in features.logits.values()).backward()
    assert [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()] == []


def test_joint_teacher__dropout_acts_on_the_map_element_by_element() -> None:
    model = joint("L2", dropout=0.5).train()
    seen: list[Tensor] = []
    assert model.labels is not None
    model.labels.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    kept = model(embeddings_of_teachers("L2")).maps["L2"]
    dropped = seen[0] == 0
    torch.testing.assert_close(seen[0], torch.where(dropped, 0, 2 * kept))
    assert 0.4 < dropped.float().mean() < 0.6
    assert 0 < dropped[0, 0].sum() < dropped[0, 0].numel()
