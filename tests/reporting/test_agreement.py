"""Students against their own teachers, counted by hand."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kd.artefacts.job import Job
from kd.common.errors import UserError
from kd.data.options import Task
from kd.reporting.base import Run
from kd.reporting.tables import agreement as module
from kd.reporting.tables.agreement import Report, agreement, teacher_of
from kd.training.predictions import Predictions, write_predictions
from tests.reporting.stored import Stored, random_labels, random_logits


def single(classes: list[int], labels: list[int]) -> Predictions:
    """A network that predicts these classes, with a probability of 3/4 each (of three)."""
    logits = np.full((len(classes), 3), -math.log(6), dtype=np.float32)
    logits[np.arange(len(classes)), classes] = 0
    return Predictions(np.arange(len(classes)), np.array(labels), logits)


def test_agreement__of_single_label_networks_by_hand() -> None:
    labels = [0, 0, 0, 1, 1, 2, 2, 2]
    ours = single([0, 1, 1, 1, 0, 2, 1, 0], labels)
    theirs = single([0, 1, 2, 1, 0, 1, 2, 1], labels)
    found = agreement(ours, theirs)
    # Both are wrong at images 1, 2, 4 and 7, and predict the same at 1 and 4.
    assert found["agreement"] == 100 * 4 / 8
    assert found["both_wrong"] == 100 * 4 / 8
    assert found["wrong_agreement"] == 100 * 2 / 4
    # Where they differ, two of three probabilities do, by 3/4 - 1/8.
    assert found["difference"] == pytest.approx(100 * 4 * 2 * 0.625 / (8 * 3), rel=1e-6)


def test_agreement__of_multi_label_networks_by_hand() -> None:
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=np.uint8)
    yes, no = math.log(3), -math.log(3)  # probabilities of 3/4 and 1/4; 0 is 1/2, and counts as a label
    ours = np.array([[yes, no], [yes, no], [0, no], [no, no]], dtype=np.float32)
    theirs = np.array([[yes, no], [yes, no], [yes, yes], [no, yes]], dtype=np.float32)
    found = agreement(Predictions(np.arange(4), labels, ours), Predictions(np.arange(4), labels, theirs))
    assert found["agreement"] == 50
    assert found["both_wrong"] == 50
    assert found["wrong_agreement"] == 50
    assert found["difference"] == pytest.approx(100 * (0.25 + 0.5 + 0.5) / 8, rel=1e-6)


def test_agreement__of_networks_that_are_never_both_wrong() -> None:
    found = agreement(single([0, 1], [0, 0]), single([0, 0], [0, 0]))
    assert found["both_wrong"] == 0
    assert math.isnan(found["wrong_agreement"])


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_agreement__is_that_of_a_slow_loop(monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    monkeypatch.setattr(module, "BLOCK", 40)
    labels = random_labels(90, 4, task)
    ours, theirs = (random_logits(labels, 4, skill, seed).astype(float) for seed, skill in ((0, 1.0), (1, 1.5)))
    same = twice = same_twice = 0
    distance = 0.0
    for label, left, right in zip(labels.tolist(), ours, theirs, strict=True):
        if task == "single_label":
            mine, other, true = int(left.argmax()), int(right.argmax()), label
            mine_p, other_p = (np.exp(each) / np.exp(each).sum() for each in (left, right))
        else:
            mine, other, true = (left > 0).tolist(), (right > 0).tolist(), [each > 0 for each in label]
            mine_p, other_p = (1 / (1 + np.exp(-each)) for each in (left, right))
        same += mine == other
        twice += mine != true and other != true
        same_twice += mine == other != true
        distance += np.abs(mine_p - other_p).mean()
    found = agreement(*(Predictions(np.arange(90), labels, each.astype(np.float32)) for each in (ours, theirs)))
    expected = [100 * same / 90, 100 * twice / 90, 100 * same_twice / twice, 100 * distance / 90]
    assert list(found.values()) == pytest.approx(expected)


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """Of two seeds: an individual teacher, a joint one, students of both, of live teachers, and of none."""
    made = Stored(tmp_path)
    labels = random_labels(50, 4, "single_label")
    data = made.dataset("d", labels, 4)
    for seed in (0, 1):
        best = {"recipe": {"selection": "best_val"}}

        def network(stage: str, method: str, number: int, at: int = seed, **options: Any) -> Job:
            return made.network(stage, method, "d", random_logits(labels, 4, 1.5, 10 * at + number), seed=at, **options)

        teacher = network("train_teacher", "individual", 0)
        joint = network("train_joint_teacher", "joint_teacher", 1, level="L2", spec=best)
        own = made.job("cache_embeddings", f"own{seed}", {"teacher": teacher, "dataset": data})
        fused = made.job(
            "cache_targets", f"fused{seed}", {"joint_teacher": joint, "dataset": data, "embeddings:a": own}
        )
        network("distill_student", "kd", 2, upstream={"dataset": data, "targets": own})
        network("distill_student", "student", 3, level="L2", upstream={"dataset": data, "targets": fused})
        above = {"dataset": data, "teacher:a": teacher}
        network("distill_student", "at", 4, upstream=above)
        network("distill_student", "joint_at", 5, level="L2", upstream=above | {"joint_teacher": joint})
        network("distill_student", "vanilla", 6, upstream={"dataset": data})
        network("distill_student", "kd", 7, upstream={"dataset": data, "targets": own}, variant="temperature=1")
    return made


def test_teacher_of__whoever_made_the_targets(stored: Stored) -> None:
    run = stored.run()
    found = {}
    for row in run.rows:
        if row.job.stage == "distill_student" and row.seed == 0 and not row.variant:
            teacher = teacher_of(run, row.job)
            found[row.method] = teacher and teacher.stage
    assert found == {
        "kd": "train_teacher",
        "student": "train_joint_teacher",
        "at": "train_teacher",
        "joint_at": "train_joint_teacher",
        "vanilla": None,
    }


def test_agreement_table__of_each_student_and_its_own_teacher(stored: Stored) -> None:
    labels = stored.labels["d"]
    whole = stored.run()
    report = Report()
    assert report.applies(whole)
    read = report.reads(whole)
    assert {job.stage for job in read} == {
        *("train_teacher", "train_joint_teacher", "distill_student"),
        *("cache_embeddings", "cache_targets"),
    }
    assert len(read) == len({job.directory for job in read}) == 2 * 8
    # As it is made: with what it reads and no more.
    rows = [row for row in whole.rows if row.job in read]
    run = Run(**(vars(whole) | {"jobs": {job.directory: job for job in read}, "rows": rows}))
    texts = report.texts(run)
    table = pd.read_csv(io.StringIO(texts["agreement.csv"]), keep_default_na=False).set_index("method")
    assert list(table.index) == ["kd", "at", "student", "joint_at"]
    assert set(table["n_seeds"]) == {2}

    def same(number: int, teacher: int) -> list[float]:
        ours, theirs = (
            [random_logits(labels, 4, 1.5, 10 * seed + each) for seed in (0, 1)] for each in (number, teacher)
        )
        theirs = [-each for each in theirs] if teacher == 1 else theirs  # the weights that taught: the best on val
        pairs = zip(ours, theirs, strict=True)
        return [100 * float((left.argmax(axis=1) == right.argmax(axis=1)).mean()) for left, right in pairs]

    for method, number, teacher in (("kd", 2, 0), ("student", 3, 1), ("at", 4, 0), ("joint_at", 5, 1)):
        expected = same(number, teacher)
        assert table.loc[method, "agreement"] == pytest.approx(np.mean(expected), abs=1e-3)
        assert table.loc[method, "agreement_std"] == pytest.approx(np.std(expected, ddof=1), abs=1e-3)
    line = table.loc["kd"]
    assert f"{line['agreement']:.1f} ± {line['agreement_std']:.1f}" in texts["agreement.html"]


def test_agreement_table__only_where_a_student_has_a_teacher(tmp_path: Path) -> None:
    made = Stored(tmp_path)
    labels = random_labels(10, 3, "single_label")
    data = made.dataset("d", labels, 3)
    made.network("train_teacher", "individual", "d", random_logits(labels, 3, 1.0))
    made.network("distill_student", "vanilla", "d", random_logits(labels, 3, 1.0), upstream={"dataset": data})
    assert not Report().applies(made.run())


def test_agreement_table__refuses_predictions_of_other_images(stored: Stored) -> None:
    (student,) = (row.job for row in stored.rows if (row.method, row.seed, row.variant) == ("kd", 0, ""))
    logits = {"last": np.zeros((50, 4), dtype=np.float32)}
    write_predictions(student.directory, "d", np.arange(50), stored.labels["d"], logits)
    with pytest.raises(UserError, match="its predictions are of other test samples than those of the rest; run again"):
        Report().texts(stored.run())
