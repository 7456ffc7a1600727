"""Checkpoints as other programs write them, and files that are damaged or hostile."""

from __future__ import annotations

import argparse
import json
import math
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kd.common.errors import UserError
from kd.models.joint import JointConfig, JointTeacher, load_joint_teacher, save_joint_teacher
from kd.models.network import Network
from kd.models.prediction import predict_files
from kd.models.spec import ModelSpec
from kd.models.weights import export_student, load_network, new_network, save_network
from tests.models.test_weights import INFO

State = dict[str, Tensor]


def state(seed: int) -> State:
    torch.manual_seed(seed)
    tensors: State = timm.create_model("test_resnet", num_classes=3).state_dict()
    return tensors


RAW, AVERAGED = state(1), state(2)


def behind(prefix: str, tensors: State = RAW) -> State:
    return {prefix + name: value for name, value in tensors.items()}


def brought(content: Any, directory: Path, **options: Any) -> Network:
    """A network that starts from a torch file of that content."""
    path = directory / "brought.pth"
    torch.save(content, path)
    weights = {"path": str(path)} | options
    spec = ModelSpec.model_validate({"architecture": "test_resnet", "weights": weights})
    return new_network(spec, [INFO])


def first(network: Network) -> Tensor:
    weight: Tensor = network.backbone.state_dict()["conv1.0.weight"]
    return weight


OPTIMIZER = {"state": {0: {"step": torch.zeros(1), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
ARGS = argparse.Namespace(model="test_resnet", opt="adamw", lr=0.1)


@pytest.mark.parametrize(
    "content",
    [
        RAW,
        {"state_dict": RAW, "epoch": 3, "optimizer": OPTIMIZER, "args": ARGS, "arch": "test_resnet", "metric": 71.2},
        {"model": RAW, "args": ARGS},  # DeiT, MAE
        {"model_state_dict": RAW, "optimizer_state_dict": OPTIMIZER, "loss": torch.tensor(0.3)},
        {"module": RAW},
        {"net": RAW, "acc": 93.1},
        {"params": RAW},
        {"checkpoint": {"model": {"weights": behind("module.")}}},
        {"state_dict": behind("module."), "scaler": {"scale": 1.0}},
        {"state_dict": behind("_orig_mod.")},
        {"state_dict": behind("_orig_mod.module.")},
        {"state_dict": behind("module._orig_mod.")},
        {"state_dict": behind("model.") | {"criterion.weight": torch.ones(3)}, "hyper_parameters": {"lr": 0.1}},
        {"state_dict": behind("net.backbone.")},
        {"state_dict": behind("encoder.")},
        behind("model._orig_mod."),
    ],
    ids=lambda content: "-".join(list(content)[:3]),
)
def test_load_checkpoint__whatever_is_around_the_weights(content: Any, tmp_path: Path) -> None:
    network = brought(content, tmp_path)
    assert torch.equal(first(network), RAW["conv1.0.weight"])
    assert torch.equal(network.heads["toy"].weight, RAW["fc.weight"])
    assert not network.notes


@pytest.mark.parametrize(
    ("content", "taken", "left"),
    [
        ({"state_dict": RAW, "state_dict_ema": AVERAGED}, "state_dict_ema", "state_dict"),
        ({"model_ema": behind("module.", AVERAGED), "model": RAW, "args": ARGS}, "model_ema.module", "model"),
        ({"state_dict": behind("model.") | behind("ema_model.", AVERAGED)}, "state_dict.ema_model", "state_dict.model"),
        ({"ema": AVERAGED, "model": RAW}, "ema", "model"),
    ],
)
@pytest.mark.parametrize("match", ["name", "order"])
def test_load_checkpoint__a_moving_average_is_preferred_and_said(
    content: Any, taken: str, left: str, match: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if match == "order" and "ema_model" in taken:  # names mean nothing there, and both are one group
        with pytest.raises(UserError, match="do not have the shapes"):
            brought(content, tmp_path, match=match)
        return
    caplog.set_level("INFO", "kd")
    network = brought(content, tmp_path, match=match)
    assert torch.equal(first(network), AVERAGED["conv1.0.weight"])
    by_group = {"model_ema.module": "model_ema"}.get(taken, taken) if match == "order" else taken
    (note,) = network.notes
    assert note.endswith(f"brought.pth: weights of {by_group} taken, not of {left}")
    assert note in caplog.text


def test_load_checkpoint__an_average_without_all_of_them_is_left_and_said(tmp_path: Path) -> None:
    trained = {name: value for name, value in AVERAGED.items() if "running" not in name}
    network = brought({"state_dict": RAW, "state_dict_ema": trained}, tmp_path)
    assert torch.equal(first(network), RAW["conv1.0.weight"])
    assert "weights of state_dict taken, not of state_dict_ema" in next(iter(network.notes))


class Other:
    """Of a program that is not here."""


FIRST_BATCH_NORM = next(name for name in RAW if name.endswith("running_var"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"student": RAW, "teacher": AVERAGED},
            "holds several networks: student, teacher; store the one that you mean",
        ),
        (behind("encoder_q.") | behind("encoder_k."), "holds several networks: encoder_q, encoder_k; store the one"),
        (RAW | {FIRST_BATCH_NORM: torch.tensor([math.nan]).expand(RAW[FIRST_BATCH_NORM].shape)}, "NaN"),
        (RAW | {"fc.bias": torch.tensor([1.0, math.inf, 0.0])}, r"fc\.bias: holds values that are not finite"),
        ({"state_dict": RAW, "best": Fraction(1, 2)}, r"it also holds fractions\.Fraction, and loading those may run"),
        ({"model": RAW, "config": Other()}, r"it also holds tests\.models\.test_weight_files\.Other, and loading"),
        ({"epoch": 3}, "holds no tensors by name"),
        ([RAW], "holds no tensors by name"),
        ({f"layer{number}.weight": torch.ones(1) for number in range(99)}, "lacks .* and [0-9]+ more"),
        (RAW | {f"extra{number}.weight": torch.ones(1) for number in range(99)}, "has besides .* and 94 more"),
        ({name: value.to(torch.int8) for name, value in RAW.items()}, r"has conv1\.0\.weight int8\[.* and \d+ more"),
        ({name: value.to(torch.complex64) for name, value in RAW.items()}, r"has conv1\.0\.weight complex64\["),
        ({name: value.to("meta") for name, value in RAW.items()}, r"weight: is sparse, quantised or without values"),
        (RAW | {"conv1.0.weight": torch.ones(1)}, r"has conv1\.0\.weight float32\[1\] for float32\[\d"),
    ],
)
def test_load_checkpoint__says_in_one_line_what_is_wrong(content: Any, message: str, tmp_path: Path) -> None:
    expected = rf"brought\.pth: {FIRST_BATCH_NORM}: holds values" if message == "NaN" else message
    with pytest.raises(UserError, match=expected) as error:
        brought(content, tmp_path)
    text = str(error.value)
    assert "\n" not in text
    assert "\x1b" not in text
    assert "weights_only" not in text
    assert text.count("weight") <= 6
    assert len(text) < 500


def stored_network(directory: Path) -> Callable[[], object]:
    """A student; how it is loaded."""
    torch.manual_seed(0)
    network = new_network(ModelSpec(architecture="test_resnet"), [INFO])
    save_network(network, directory)
    return lambda: load_network(directory)


def stored_student(directory: Path) -> Callable[[], object]:
    """A student with what is exported; how it classifies an image."""
    from PIL import Image

    stored_network(directory)
    export_student(load_network(directory), INFO, directory)
    Image.new("RGB", (8, 8)).save(directory / "image.png")
    return lambda: list(predict_files(directory, directory / "image.png", 3))


def stored_joint_teacher(directory: Path) -> Callable[[], object]:
    config = JointConfig(
        level="L2", channels=[4], grid=(2, 2), map_channels=[3], width=5, dropout=0.5, heads={"toy": 3}
    )
    save_joint_teacher(JointTeacher(config), directory)
    return lambda: load_joint_teacher(directory)


def a_pickle(path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(path.parent / "ran"),))

    path.write_bytes(pickle.dumps({"weight": Attack()}))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def huge_header(path: Path) -> None:
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}" + bytes(100))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_another_shape(path: Path) -> None:
    save_file(
        {name: torch.cat([value, value]) if value.ndim else value for name, value in load_file(path).items()}, path
    )


def of_another_dtype(path: Path) -> None:
    save_file({name: value.half() for name, value in load_file(path).items()}, path)


def gone(path: Path) -> None:
    path.unlink()


STORED = [
    (stored_network, "network.json", "network.safetensors"),
    (stored_student, "network.json", "network.safetensors"),
    (stored_joint_teacher, "joint.json", "joint.safetensors"),
]


@pytest.mark.parametrize(("store", "_config", "weights"), STORED)
@pytest.mark.parametrize("damage", [a_pickle, cut_off, huge_header, empty, of_another_shape, of_another_dtype, gone])
def test_load__damaged_weights_are_one_line_that_names_the_file(
    store: Callable[[Path], Callable[[], object]],
    _config: str,
    weights: str,
    damage: Callable[[Path], None],
    tmp_path: Path,
) -> None:
    load = store(tmp_path)
    assert load() is not None
    damage(tmp_path / weights)
    with pytest.raises(UserError, match=f"{tmp_path / weights}(: | is not a file)") as error:
        load()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "local-dir:DIRECTORY"},
        {"architecture": "hf-hub:timm/resnet18.a1_in1k"},
        {"architecture": "../resnet18"},
        {"architecture": "no_such_network"},
        {"kwargs": {"checkpoint_path": "DIRECTORY/model.pth"}},
        {"kwargs": {"pretrained": True}},
        {"kwargs": {"pretrained_cfg_overlay": {"file": "DIRECTORY/model.pth"}}},
        {"kwargs": {"pretrained_cfg": {"url": "http://127.0.0.1:9/model.pth"}}},
        {"kwargs": {"features_only": True}},
        {"heads": {"toy": 0}},
        {"heads": {"a.b": 3}},
        {"std": [0.1, 0.2]},
        {"surprise": 1},
    ],
    ids=str,
)
def test_load_network__what_its_description_asks_for_is_checked_and_never_fetched(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = stored_network(tmp_path)
    path = tmp_path / "network.json"
    hostile = json.loads(json.dumps(change).replace("DIRECTORY", str(tmp_path)))
    path.write_text(json.dumps(json.loads(path.read_text()) | hostile))
    touched: list[str] = []
    for module in (
        "timm.models._factory.load_model_config_from_hf",
        "timm.models._factory.load_model_config_from_path",
    ):
        monkeypatch.setattr(module, lambda *arguments, **_: touched.append(str(arguments)))
    monkeypatch.setattr("torch.load", lambda *arguments, **_: touched.append(str(arguments)))
    with pytest.raises(UserError, match=f"^{path}: ") as error:
        load()
    assert "\n" not in str(error.value)
    assert not touched


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": "L9"}, "level: "),
        ({"map_channels": [3, 3]}, "map_channels are "),
        ({"grid": None}, "grid is None"),
        ({"channels": [-4]}, "channels.0: "),
        ({"heads": {"../toy": 3}}, "heads"),
    ],
)
def test_load_joint_teacher__a_description_that_cannot_be_is_one_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    load = stored_joint_teacher(tmp_path)
    path = tmp_path / "joint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=f"{tmp_path / 'joint.json'}: .*{message}"):
        load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample": {"image_size": [0, 32]}}, "sample.image_size"),
        ({"sample": {"image_size": [32, 32], "resize": "stretch"}}, "sample.resize: "),
        ({"modality": "antigravity"}, "takes samples of modality antigravity"),
        ({"label_names": ["x", "y"]}, "are not of one student"),
        ({"task": None}, "task: "),
    ],
)
def test_predict__a_description_that_cannot_be_is_one_line(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    predict = stored_student(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=f"{tmp_path}.*{message}"):
        predict()


def test_predict__asks_timm_for_nothing_that_config_json_names(tmp_path: Path) -> None:
    predict = stored_student(tmp_path)
    before = predict()
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["architecture"] = "hf-hub:somebody/else"
    config["pretrained_cfg"] |= {"url": "http://127.0.0.1:9/model.pth", "mean": [0, 0, 0]}
    path.write_text(json.dumps(config))
    (tmp_path / "model.safetensors").unlink()
    a_pickle(tmp_path / "pytorch_model.bin")
    assert predict() == before
    assert not (tmp_path / "ran").exists()
