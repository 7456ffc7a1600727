"""Who is shown which views, and whose code counts: targets are made of views that no teacher was fitted to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd.artefacts import code as digest
from kd.data import views
from kd.data.draws import draw
from kd.jobs.run import Context
from kd.stages import cache_embeddings
from kd.training.supervised import train_network
from tests.training.chain import MODEL, RECIPE, embedding_spec, folder, joint, of_live, student

Drawn = Callable[[], set[tuple[str, int, str, int]]]
SEED = 2**64 - 1  # the largest
ONCE = RECIPE.model_copy(update={"epochs": 1})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Streams of views that were drawn: audience, seed, dataset, view."""
    seen: set[tuple[str, int, str, int]] = set()

    def note(*key: Any) -> np.ndarray:
        seen.add(key[:4])
        return draw(*key)

    monkeypatch.setattr(views, "draw", note)
    return lambda: seen


def test_views__of_a_teacher_and_of_the_baseline_are_their_own(
    tmp_path: Path, dataset: Path, other_dataset: Path, drawn: Drawn
) -> None:
    train_network(folder(tmp_path / "teacher"), [dataset], MODEL, ONCE, 5)
    assert drawn() == {("train", 5, "digits", 0)}
    train_network(folder(tmp_path / "baseline"), [dataset, other_dataset], MODEL, ONCE, 5)
    assert drawn() == {("train", 5, "digits", 0), ("train", 5, "other", 0)}


def test_views__that_are_cached_are_those_that_students_see(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path], drawn: Drawn
) -> None:
    upstream = {"teacher": teachers["digits"], "dataset": dataset}
    cache_embeddings.build(Context(embedding_spec(views=1), upstream, folder(tmp_path / "store")))
    cached = set(drawn())
    drawn().clear()
    student(tmp_path / "vanilla", dataset, ({}, {}), distiller={"name": "vanilla"}, recipe=ONCE)
    assert drawn() == cached == {("shared", 0, "digits", 0)}


def test_views__of_live_teachers_are_those_that_students_see(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path], drawn: Drawn
) -> None:
    own = {"digits": teachers["digits"]}
    fused = joint(tmp_path / "joint", [dataset], [], "L1", list(own.values()), recipe=ONCE, seed=SEED)
    student(tmp_path / "student", dataset, of_live(own, fused, "L1"), recipe=ONCE, seed=SEED)
    assert drawn() == {("shared", SEED, "digits", 0)}


@pytest.mark.parametrize(
    ("modules", "strangers"),
    [
        (
            ["train_teacher"],
            ["kd.embeddings", "kd.distillers", "kd.training.students", "kd.training.cached_embeddings"],
        ),
        (
            ["train_baseline"],
            ["kd.embeddings", "kd.distillers", "kd.training.students", "kd.training.cached_embeddings"],
        ),
        (["cache_embeddings"], ["kd.training.loop", "kd.training.recipe", "kd.data.order", "kd.data.loader"]),
        (["train_joint_teacher"], ["kd.distillers", "kd.training.students", "kd.training.live_teachers"]),
        (
            ["distill_student"],
            [
                "kd.embeddings.encoding",
                "kd.embeddings.store",
                "kd.training.cached_embeddings",
                "kd.training.live_teachers",
            ],
        ),
    ],
)
def test_code_digests__leave_out_what_a_stage_does_not_use(modules: list[str], strangers: list[str]) -> None:
    code = digest.code_digests(*(f"kd.stages.{each}" for each in modules))
    assert not [name for name in code if any(f"{name}.".startswith(f"{each}.") for each in strangers)]


def test_plan__code_of_stores_counts_for_students_that_read_one(tiny: dict[str, Any]) -> None:
    from kd.config.load import load_config
    from kd.planning.plan import Plan

    tiny["students"]["alone"] = {"teacher": "individual", "distiller": {"name": "vanilla"}, "recipe": "network"}
    jobs = [job for job in Plan(load_config(tiny)).jobs.values() if job.stage == "distill_student"]
    assert {("targets" in job.upstream, "kd.embeddings.store" in job.code) for job in jobs} == {
        (True, True),
        (False, False),
    }
