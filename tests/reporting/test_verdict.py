"""The verdict against numbers worked out by hand."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jinja2
import pytest
from docutils.core import publish_parts

from kd.artefacts.job import Job
from kd.config.load import load_config
from kd.planning.plan import Plan
from kd.reporting.layout import literal
from kd.reporting.statistics import measurements, paired_gain
from kd.reporting.verdict import as_html, as_rst, verdict

SEEDS = [0, 1, 2]
SECONDS = {
    "prepare_dataset": 1000,
    "train_teacher": 10,
    "cache_embeddings": 1,
    "train_joint_teacher": 2,
    "cache_targets": 3,
    "distill_student": 5,
    "train_baseline": 40,
}
# Test accuracy of each seed; those on val are as much higher as the second number says.
SCORES: dict[tuple[str, str], tuple[list[float], float]] = {
    ("individual", ""): ([90.0, 91.0, 92.0], 0),
    ("joint_teacher", "L1"): ([99.0, 99.0, 99.0], 0),
    ("joint_teacher", "L2"): ([99.0, 99.0, 99.0], 0),
    ("student", "L1"): ([92.0, 93.1, 93.9], 1),
    ("student", "L2"): ([95.0, 96.0, 97.0], -5),  # the best on test, but not on val
    ("single_dataset_kd", "L1"): ([91.0, 90.0, 92.5], 0),
    ("joint_baseline", ""): ([94.0, 95.2, 96.1], 1),
}


@pytest.fixture
def told(tiny: dict[str, Any]) -> Callable[..., str]:
    """The verdict on the tiny config with given scores."""

    def tell(seeds: list[int] = SEEDS, without: tuple[str, ...] = (), **scores: list[float]) -> str:
        config = load_config(
            tiny | {"seeds": seeds} | {part: {} for part in without if part != "joint_teachers"},
        )
        plan = Plan(config)

        def read(job: Job) -> dict[str, Any]:
            metrics = []
            for row in plan.rows:
                if row.job == job:
                    values, more = SCORES[row.method, row.level]
                    value = scores.get(f"{row.method}_{row.level}", values)[row.seed]
                    place = {"dataset": row.dataset, "selection": "best_val"}
                    metrics.append(place | {"metric": "acc@1", "value": value})
                    metrics.append(place | {"metric": "val_acc@1", "value": value + more})
            result = {"metrics": metrics, "sizes": {"train": 60}}
            return {"seconds": SECONDS[job.stage], "bytes": 1_500_000, "result": result}

        run = replace(plan.run(), read=read)
        return verdict(run, measurements(run))

    return tell


def test_verdict__takes_the_student_that_is_best_on_val_and_says_its_gain_and_cost(told: Callable[..., str]) -> None:
    (text,) = told().split("\n\n")  # only digits has students
    assert text.startswith(
        "**digits**, 60 training samples, 3 seeds: distilling from several datasets helps. Take `student` L1"
    )
    # Differences of 2, 2.1 and 1.9 points: standard error 0.1 / sqrt(3), t = 34.6.
    assert "(94.0, weights: best_val): on test +2.0 ± 0.1 points (p = 0.00083) over `individual`" in text
    # 2 teachers, their stores of digits, the joint teacher, its targets, the student; in units of 10 s.
    assert "at the cost of 3.2 individual trainings and 4.5 MB of cache" in text
    assert "its own dataset alone, `single_dataset_kd` L1, has +0.2 ± 0.6 points (p = 0.81: no difference seen)" in text
    assert "`joint_baseline`, one network trained with the labels of all datasets, has +4.1 ± 0.1 points" in text
    assert "at 4.0 individual trainings; against `student` L1 that is +2.1 ± 0.1 points" in text


def test_verdict__says_so_where_no_difference_is_seen_or_distilling_does_harm(told: Callable[..., str]) -> None:
    assert "several datasets made no difference that can be seen. Take" in told(student_L1=[95.0, 91.0, 92.5])
    harm = told(student_L1=[85.0, 86.1, 86.9], student_L2=[85.0, 86.1, 86.9], single_dataset_kd_L1=[84.0, 84.0, 84.0])
    assert "several datasets does harm. Keep `individual`: on val it is ahead (91.0, weights: best_val)" in harm
    assert "student, `student` L1 (87.0), which has on test -5.0 ± 0.1 points" in harm
    same = told(student_L1=[90.0, 91.0, 92.0])
    assert "made no difference that can be seen" in same
    assert "+0.0 ± 0.0 points (p = 1: no difference seen) over `individual`" in same


def test_verdict__of_one_seed_claims_nothing(told: Callable[..., str]) -> None:
    text = told(seeds=[0])
    assert "made no difference that can be seen" in text
    assert "on test +2.0 points (of one seed: this may be chance) over `individual`" in text


def test_verdict__of_a_run_without_students_is_empty(told: Callable[..., str]) -> None:
    assert told(without=("students",)) == ""


def test_paired_gain__is_over_the_seeds_that_both_have() -> None:
    gain = paired_gain({0: 3.0, 1: 5.0, 2: 100.0}, {0: 1.0, 1: 1.0})
    assert gain.mean == 3
    assert gain.se == pytest.approx(1)
    assert gain.p == pytest.approx(0.2048, abs=1e-4)  # t = 3 with one degree of freedom
    assert paired_gain({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0}).p == 0


@pytest.mark.parametrize(
    "name", ["$1_to_$5", "a_b", "_x_", "<b>&amp;", "**", "`a`", "|x|", "{{ x }}", "{% x", "{# x", "\\", "[x]_", "x\\*y"]
)
def test_verdict__shows_names_as_they_are(name: str) -> None:
    text = f"**digits ({literal(name)})**, 60 training samples: take `student` L2."
    page = as_html(text)
    assert page.count("<b>") == page.count("<code>") == 1
    template = jinja2.Environment(autoescape=False).from_string(as_rst(text)).render()  # as Snakemake does
    rst = publish_parts(template, writer="html5", settings_overrides={"report_level": 2, "halt_level": 2})["body"]
    for shown in (page, rst):
        words = html.unescape(re.sub(r"<[^>]+>", "", shown)).strip()
        assert words == f"digits ({name}), 60 training samples: take student L2."
