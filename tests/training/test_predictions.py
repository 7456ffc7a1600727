"""Stored predictions: what the metrics of the manifest are of, of every kind of network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd.common.errors import UserError
from kd.training import loop
from kd.training.predictions import (
    SELECTIONS,
    predictions_bytes,
    predictions_file,
    read_predictions,
    write_predictions,
)
from kd.training.supervised import train_network
from tests.training.chain import MODEL, RECIPE, check_predictions, joint, of_joint, student

QUICK = RECIPE.model_copy(update={"epochs": 2})


def test_predictions__of_a_network_with_several_heads(tmp_path: Path, dataset: Path, other_dataset: Path) -> None:
    """As is a baseline; a teacher has one head."""
    result, _ = train_network(tmp_path, [dataset, other_dataset], MODEL, QUICK, 0)
    check_predictions(tmp_path, [dataset, other_dataset], result["metrics"])


def test_predictions__of_given_weights(tmp_path: Path, dataset: Path, teachers: dict[str, Path]) -> None:
    weights = {"path": str(teachers["digits"] / "network.safetensors")}
    given = MODEL.model_validate(MODEL.model_dump() | {"weights": weights})
    result, _ = train_network(tmp_path, [dataset], given, None, 0)
    check_predictions(tmp_path, [dataset], result["metrics"])


def test_predictions__of_joint_teachers_and_students(
    tmp_path: Path,
    dataset: Path,
    other_dataset: Path,
    stores: dict[tuple[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A joint teacher sees embeddings of the test images; a student is measured as it is exported."""
    measured = []

    def train_and_measure(*arguments: Any) -> dict[str, Any]:
        measured.append(loop.train_and_measure(*arguments))
        return measured[-1]

    monkeypatch.setattr("kd.training.fusion.train_and_measure", train_and_measure)
    monkeypatch.setattr("kd.training.students.train_and_measure", train_and_measure)
    by_target = [[stores[teacher, target] for teacher in ("digits", "other")] for target in ("digits", "other")]
    joint(tmp_path / "shared", [dataset, other_dataset], by_target, "L2", recipe=QUICK)
    fused = joint(tmp_path / "fused", [dataset], by_target[:1], "L2", recipe=QUICK)
    student(tmp_path / "student", dataset, of_joint(tmp_path / "t", dataset, fused, by_target[0], "L2"), recipe=QUICK)
    check_predictions(tmp_path / "shared", [dataset, other_dataset], measured[0]["metrics"])
    check_predictions(tmp_path / "fused", [dataset], measured[1]["metrics"])
    check_predictions(tmp_path / "student", [dataset], measured[2]["metrics"])


def arrays(*, multi_label: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (50, 7), dtype=np.uint8) if multi_label else rng.integers(0, 7, 50)
    logits = {selection: rng.normal(size=(50, 7)).astype(np.float32) for selection in SELECTIONS}
    return {"ids": np.arange(100, 150), "labels": labels, "logits": logits}


@pytest.mark.parametrize("multi_label", [False, True])
def test_write_predictions__are_read_again_and_as_large_as_forecast(tmp_path: Path, *, multi_label: bool) -> None:
    given = arrays(multi_label=multi_label)
    write_predictions(tmp_path, "d", **given)
    for selection in SELECTIONS:
        found = read_predictions(tmp_path, "d", selection)
        np.testing.assert_array_equal(found.ids, given["ids"])
        np.testing.assert_array_equal(found.labels, given["labels"])
        np.testing.assert_array_equal(found.logits, given["logits"][selection])
    size = predictions_file(tmp_path, "d").stat().st_size
    headers = 4 * 512  # of four arrays, at most
    assert 0 < size - predictions_bytes(50, 7, multi_label=multi_label) < headers
    assert [path.name for path in tmp_path.iterdir()] == ["predictions-d.npz"]
    with np.load(tmp_path / "predictions-d.npz") as stored:  # as people read it
        assert list(stored) == ["ids", "labels", "logits_best_val", "logits_last"]


def test_read_predictions__says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"predictions-d\.npz: is missing; delete .* and run again"):
        read_predictions(tmp_path, "d", "last")
    for content in (b"", b"no archive", b"PK\x03\x04 cut"):
        predictions_file(tmp_path, "d").write_bytes(content)
        with pytest.raises(UserError, match=r"predictions-d\.npz: holds no predictions \(.*\); delete"):
            read_predictions(tmp_path, "d", "last")
    with predictions_file(tmp_path, "d").open("wb") as stream:
        np.save(stream, np.zeros(3))  # one array, and no archive of them
    with pytest.raises(UserError, match="holds no predictions"):
        read_predictions(tmp_path, "d", "last")
    write_predictions(tmp_path, "d", **arrays(multi_label=False))
    with pytest.raises(UserError, match=r"predictions-d\.npz: holds no predictions \(.*logits_best"):
        read_predictions(tmp_path, "d", "best")
    write_predictions(tmp_path, "d", **(arrays(multi_label=False) | {"labels": np.arange(3)}))
    with pytest.raises(UserError, match=r"shapes of ids, labels and logits are \(50,\), \(3,\), \(50, 7\); delete"):
        read_predictions(tmp_path, "d", "last")
