"""Pretrained weights are got by one stage from a hub, which here is a server of the test, and then never again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save

from kd.common.errors import UserError
from kd.models import hub as hub_module
from kd.models.backbones.timm_weights import PRETRAINED, fetch_pretrained
from kd.models.hub import check_network
from kd.models.weights import load_network
from kd.planning.forecast import measure_pretrained
from tests.conftest import ROOT
from tests.models.hub import FILE, Hub, environment, serving
from tests.workflow.running import jobs, snakemake

REPOSITORY = "timm/test_resnet.r160_in1k"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    state: dict[str, torch.Tensor] = timm.create_model("test_resnet").state_dict()
    return state


@pytest.fixture
def hub(weights: dict[str, torch.Tensor]) -> Iterator[Hub]:
    with serving({REPOSITORY: save(weights)}) as running:
        yield running


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Ask a hub of an address, with an empty cache; huggingface_hub reads its variables once, when it is imported."""
    monkeypatch.setattr(hub_module, "SECONDS", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def ask_of(address: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )

    return ask_of


def test_fetch_pretrained__from_the_hub_and_then_from_the_cache(
    hub: Hub, ask: Callable[[str], None], weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    ask(hub.address)
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    check_network(["test_resnet"])
    fetch_pretrained("test_resnet", tmp_path / "first")
    assert f"GET /{REPOSITORY}/resolve/main/{FILE}" in hub.requests
    ask(NOWHERE)
    check_network(["test_resnet", "test_resnet.r160_in1k"])
    fetch_pretrained("test_resnet", tmp_path / "second")
    for directory in ("first", "second"):
        found = load_file(tmp_path / directory / PRETRAINED)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], value) for name, value in weights.items())
    with pytest.raises(UserError, match=f"models: pretrained weights of test_byobnet: {NOWHERE}: .*refused"):
        check_network(["test_resnet", "test_byobnet"])


def refused(_hub: Hub) -> str:
    return NOWHERE


def unknown_host(_hub: Hub) -> str:
    return "http://nowhere.invalid"


def silent(hub: Hub) -> str:
    hub.silent = True
    return hub.address


def status(code: int) -> Callable[[Hub], str]:
    def answer(hub: Hub) -> str:
        hub.status = code
        return hub.address

    answer.__name__ = str(code)
    return answer


def cut_short(hub: Hub) -> str:
    hub.cut = len(hub.files[REPOSITORY]) * 2 // 3
    return hub.address


def wrong_size(hub: Hub) -> str:
    hub.says = 10
    return hub.address


def damaged(hub: Hub) -> str:
    hub.etag = "0" * 64
    return hub.address


def no_weights(hub: Hub) -> str:
    hub.files[REPOSITORY] = b"<html>please log in</html>"
    return hub.address


def other_weights(hub: Hub) -> str:
    hub.files[REPOSITORY] = save({"weight": torch.zeros(3)})
    return hub.address


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (refused, "Connection refused"),
        (unknown_host, "nowhere.invalid/.*not known|nowhere.invalid/.*resolution"),
        (silent, r"(no answer within 0\.5 s|timed out)"),
        (status(401), "answers 401 Unauthorized"),
        (status(404), "answers 404 Not Found"),
        (status(500), "answers 500 Internal Server Error"),
        (cut_short, r"without sending complete message body"),
        (wrong_size, r"should be of size \d+ but has size \d+"),
        (damaged, "is damaged, its sha256 is not its name; delete it and run again"),
        (no_weights, r"is no file of its weights \(.*\); delete it and run again"),
        (other_weights, r"is no file of its weights \(.*\); delete it and run again"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_fetch_pretrained__without_weights_one_line_says_so_at_once(
    hub: Hub,
    ask: Callable[[str], None],
    tmp_path: Path,
    fault: Callable[[Hub], str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask(fault(hub))
    if fault is cut_short:  # huggingface_hub waits for a second before each of five more attempts
        monkeypatch.setattr(time, "sleep", lambda _: None)
    started = time.monotonic()
    with pytest.raises(UserError, match=f"^models: pretrained weights of test_resnet: .*{message}") as error:
        fetch_pretrained("test_resnet", tmp_path)
    assert time.monotonic() - started < 4
    assert "\n" not in str(error.value)
    assert not (tmp_path / PRETRAINED).exists()


def test_pretrained__of_what_timm_has_no_weights_is_refused_before_any_job(tmp_path: Path) -> None:
    message = "models: regnetz_b16_evos: timm has no pretrained weights of it; expected"
    for ask_for in (measure_pretrained, lambda name: fetch_pretrained(name, tmp_path)):
        with pytest.raises(UserError, match=message):
            ask_for("regnetz_b16_evos")


CONFIG: dict[str, Any] = {
    "experiment": "pretrained",
    "datasets": {
        "digits": {"source": {"type": "digits"}, "image_size": 32, "split": {"train": 60, "val": 20, "test": 40}}
    },
    "models": {"net": {"architecture": "test_resnet", "weights": "pretrained"}},
    "recipes": {"r": {"lr": 1e-12, "epochs": 1, "batch_size": 32}},  # what it began with is what it ends with
    "teachers": {"t": {"dataset": "digits", "model": "net", "recipe": "r"}},
    "students": {"kd": {"teacher": "individual", "level": "L1", "recipe": "r"}},
}


def test_workflow__from_pretrained_weights_to_the_table_and_offline_ever_after(
    hub: Hub, weights: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = ("--workflow-profile", str(ROOT / "workflow/profiles/workstation"))
    for name, value in environment(NOWHERE, tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    started = time.monotonic()
    without = snakemake(tmp_path, *profile, "prefetch", config=CONFIG)
    assert time.monotonic() - started < 20  # 3 s, unless the machine has other things to do
    assert without.returncode != 0
    assert (
        f"models: pretrained weights of test_resnet: {NOWHERE}: [Errno 111] Connection refused; run the"
        in without.stdout
    )
    assert "rule " not in without.stdout
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    fetched = snakemake(tmp_path, *profile, "prefetch")
    assert fetched.returncode == 0, fetched.stdout
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    made = snakemake(tmp_path, *profile, "tables")
    assert made.returncode == 0, made.stdout
    assert "fetch_weights" not in jobs(made.stdout)
    assert len((tmp_path / "results/experiments/pretrained/tables/summary.csv").read_text().splitlines()) > 2
    for stage in ("train_teacher", "distill_student"):
        (network,) = (tmp_path / "results" / stage).glob("*/*/network.json")
        ended = load_network(network.parent).backbone.state_dict()
        torch.testing.assert_close(ended["conv1.0.weight"], weights["conv1.0.weight"], rtol=1e-4, atol=1e-6)
