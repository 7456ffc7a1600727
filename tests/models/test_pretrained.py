"""Pretrained weights are got by one stage, and nothing else uses the network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from kd.config import load_config
from kd.models.weights import load_network
from kd.plan import Plan
from tests.conftest import make


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A registry of weights in place of the network: what was got from it."""
    create, got = timm.create_model, []

    def create_model(architecture: str, *, pretrained: bool = False, **options: Any) -> Any:
        if not pretrained or options.get("pretrained_cfg_overlay"):
            return create(architecture, pretrained=pretrained, **options)
        got.append(architecture)
        torch.manual_seed(7)
        return create(architecture, **options)

    monkeypatch.setattr(timm, "create_model", create_model)
    return got


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a connection fails."""

    def refuse(*_arguments: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("offline")
def test_pretrained__fetched_once_and_then_without_network(
    tiny: dict[str, Any], tmp_path: Path, hub: list[str]
) -> None:
    tiny["models"]["resnet"]["weights"] = "pretrained"
    tiny["recipes"]["network"]["lr"] = 1e-12  # what it began with is what it ends with
    tiny |= {"joint_teachers": {}, "students": {"kd": tiny["students"]["kd"]}}
    plan = Plan(load_config(tiny | {"results": str(tmp_path)}))
    (fetching,) = plan.stage("fetch_weights")
    assert fetching.name == "test_resnet"
    make(fetching)
    assert hub == ["test_resnet"]
    for job in plan.jobs.values():
        make(job)
    assert hub == ["test_resnet"]
    torch.manual_seed(7)
    begun = timm.create_model("test_resnet").state_dict()
    for stage in ("train_teacher", "train_baseline", "distill_student"):
        (user,) = [job for job in plan.stage(stage) if "weights" in job.upstream]
        ended = load_network(user.directory).backbone.state_dict()
        torch.testing.assert_close(ended["conv1.0.weight"], begun["conv1.0.weight"], rtol=1e-4, atol=1e-6)
