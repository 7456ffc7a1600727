"""How often students predict what their teachers predict."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from kd.artefacts.job import Job
from kd.reporting.base import Row, Run, Table, each_once
from kd.reporting.predictions import (
    check_same_samples,
    over_seeds,
    place_of,
    predicted_classes,
    rows_without_sweeps,
)

if TYPE_CHECKING:
    import numpy as np

    from kd.training.predictions import Predictions

VALUES = ("agreement", "both_wrong", "wrong_agreement", "difference")
BLOCK = 1 << 20  # probabilities that are worked on at a time


class Report(Table):
    """`agreement.csv` and `agreement.html`."""

    READS_FILES = True
    CAPTION = """\
Students and their own teachers, individual or joint, on test: mean and standard deviation over seeds, in percent,
without sweeps. *agreement*: samples of which both predict the same class (multi-label: the same set of labels, those
with a probability of 0.5 or more). *both_wrong*: samples that both get wrong, and *wrong_agreement*: those of them of
which both predict the same. *difference*: between the probabilities of both, mean of its absolute value over samples
and classes, in points. Teachers have the weights that taught.
"""

    def applies(self, run: Run) -> bool:
        """Whether there is a student of a teacher."""
        return bool(self.pairs(run))

    def reads(self, run: Run) -> list[Job]:
        """Students, their teachers, and the stores between them, which say whose they are."""
        pairs = self.pairs(run)
        stores = [run.upstream(row.job).get("targets") for row, _ in pairs]
        return each_once([*(row.job for row, _ in pairs), *(teacher for _, teacher in pairs), *filter(None, stores)])

    def pairs(self, run: Run) -> list[tuple[Row, Job]]:
        """Each student, and its teacher; students of one teacher follow each other."""
        students = [row for row in rows_without_sweeps(run) if row.job.stage == "distill_student"]
        pairs = [(row, teacher) for row in students if (teacher := teacher_of(run, row.job)) is not None]
        return sorted(pairs, key=_whose)

    def texts(self, run: Run) -> dict[str, str]:
        """The table."""
        from kd.reporting.layout import STYLE, html_table, with_spreads
        from kd.training.predictions import read_predictions

        lines = []
        for _, taught in groupby(self.pairs(run), _whose):
            (row, teacher), *_ = pairs = list(taught)
            theirs = read_predictions(teacher.directory, row.dataset, weights_that_teach(teacher))
            for row, _ in pairs:
                ours = read_predictions(row.job.directory, row.dataset, run.selection)
                check_same_samples(theirs, ours, row.job.directory)
                lines.append(place_of(row) | agreement(ours, theirs))
        table = over_seeds(run, lines, VALUES)
        title = f"students and their teachers on test, mean ± std over seeds, weights of students: {run.selection}"
        short = with_spreads(table, {"agreement": 1, "both_wrong": 1, "wrong_agreement": 1, "difference": 2})
        return {
            "agreement.csv": table.round(3).to_csv(index=False),
            "agreement.html": f"{STYLE}<p>{title}</p>{html_table(short)}",
        }


def _whose(pair: tuple[Row, Job]) -> tuple[Path, str]:
    """The teacher, and the dataset that it teaches: students of one follow each other, and it is read once."""
    return pair[1].directory, pair[0].dataset


def teacher_of(run: Run, student: Job) -> Job | None:
    """The joint teacher of a student, or else its individual one; None: it learns from labels alone."""
    above = run.upstream(student)
    if "targets" in above:
        above = run.upstream(above["targets"])
    individual = (job for role, job in above.items() if role.split(":")[0] == "teacher")
    return above.get("joint_teacher") or next(individual, None)


def weights_that_teach(teacher: Job) -> str:
    """The selection whose weights a teacher is stored with; given weights are the same in each."""
    recipe = teacher.spec["recipe"]
    return "last" if recipe is None else str(recipe["selection"])


def agreement(ours: Predictions, theirs: Predictions) -> dict[str, float]:
    """`VALUES` of two networks on the same samples, in percent; NaN where no sample is wrong twice."""
    import numpy as np

    mine, other = predicted(ours), predicted(theirs)
    true = ours.labels.reshape(len(mine), -1)
    same, right, also_right = ((one == two).all(axis=1) for one, two in ((mine, other), (mine, true), (other, true)))
    wrong = ~right & ~also_right
    return {
        "agreement": 100 * float(same.mean()),
        "both_wrong": 100 * float(wrong.mean()),
        "wrong_agreement": 100 * float(same[wrong].mean()) if wrong.any() else np.nan,
        "difference": 100 * difference(ours, theirs),
    }


def predicted(predictions: Predictions) -> np.ndarray:
    """(N, 1) the class of each sample; of a multi-label dataset (N, classes) of 0 and 1."""
    if predictions.labels.ndim == 2:
        return predictions.logits >= 0
    return predicted_classes(predictions.logits)[:, None]


def difference(ours: Predictions, theirs: Predictions) -> float:
    """Mean absolute difference of the probabilities of two networks, over samples and classes, in float64."""
    from scipy.special import expit, softmax

    total = 0.0
    samples, classes = ours.logits.shape
    step = max(1, BLOCK // classes)
    for start in range(0, samples, step):
        logits: list[np.ndarray] = [each.logits[start : start + step].astype(float) for each in (ours, theirs)]
        mine, other = (expit(each) if ours.labels.ndim == 2 else softmax(each, axis=1) for each in logits)
        total += float(abs(mine - other).sum())
    return total / float(samples * classes)
