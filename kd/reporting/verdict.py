"""What a run says in words: does distilling from several datasets help, by how much, at what cost, and what to take.

For each dataset one student is chosen by its score on val, averaged over seeds, and only then is its test score read:
choosing by test would make the chosen student look better than it is. Differences are paired by seed, and one is said
to be seen if a two-sided paired t-test gives p < 0.05.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pandas as pd

from kd.artefacts.job import Job
from kd.reporting.base import Row, Run
from kd.reporting.layout import literal
from kd.reporting.statistics import REFERENCES, paired_gain
from kd.training.metrics import PRIMARY, VAL

NOT_STUDENTS = (*REFERENCES, "joint_teacher", "joint_baseline")
CACHES = ("cache_embeddings", "cache_targets")
# Whatever is trained needs these, so they are no part of the cost.
NOT_COUNTED = ("fetch_dataset", "prepare_dataset", "fetch_weights")


@dataclass(frozen=True)
class Candidate:
    """One method at one level on one dataset.

    Attributes:
        name: of the method, with its level, for people.
        method: as in the tables.
        several: it has learned from several datasets.
        val, test: primary metric by seed, in percent.
        trainings: mean cost over seeds, with all that it was made from, in individual trainings of the dataset.
        bytes: mean over seeds of the stores that it was made from.
    """

    name: str
    method: str
    several: bool
    val: dict[int, float]
    test: dict[int, float]
    trainings: float
    bytes: float

    @property
    def mean_val(self) -> float:
        """The mean on val, by which candidates are chosen."""
        return fmean(self.val.values())

    @property
    def cost(self) -> str:
        """The cost in words."""
        return f"{self.trainings:.1f} individual trainings" + (
            f" and {self.bytes / 1e6:.1f} MB of cache" if self.bytes else ""
        )


def verdict(run: Run, measured: pd.DataFrame) -> str:
    """The verdict on every experiment and dataset that has students: paragraphs of Markdown, "" if there are none.

    Args:
        run: finished.
        measured: as from `kd.reporting.statistics.measurements`, with the score on val of each network.
    """
    places = dict.fromkeys((row.experiment, row.dataset) for row in run.rows)
    several = len({experiment for experiment, _ in places}) > 1
    paragraphs = []
    for experiment, dataset in places:
        candidates = _candidates(run, measured, experiment, dataset)
        text = " ".join(_sentences(candidates, run.selection))
        if text:
            where = f"{dataset} ({experiment})" if several else dataset
            samples = run.read(run.dataset(dataset))["result"]["sizes"]["train"]
            seeds = f"{len(run.seeds):,} seed{'' if len(run.seeds) == 1 else 's'}"
            paragraphs.append(f"**{literal(where)}**, {samples:,} training samples, {seeds}: {text}")
    return "\n\n".join(paragraphs)


def _candidates(run: Run, measured: pd.DataFrame, experiment: str, dataset: str) -> list[Candidate]:
    """All methods on a dataset but sweeps, in the order of the tables."""
    here = measured[(measured["experiment"] == experiment) & (measured["dataset"] == dataset)]
    chosen = here[(here["selection"] == run.selection) & (here["variant"] == "")]
    metric = next(each for each in PRIMARY.values() if each in set(chosen["metric"]))
    jobs: dict[tuple[str, str], list[Row]] = {}
    for row in run.rows:
        if (row.experiment, row.dataset, row.variant) == (experiment, dataset, ""):
            jobs.setdefault((row.method, row.level), []).append(row)
    unit = _mean(_seconds([row.job], run) for row in jobs.get(("individual", ""), []))
    found = []
    for (name, level), rows in jobs.items():
        lines = chosen[(chosen["method"] == name) & (chosen["level"] == level)]
        scores = {
            which: dict(zip(of["seed"], of["value"], strict=True))
            for which, of in lines.groupby("metric")[["seed", "value"]]
        }
        made_from = [_made_from(row.job, run) for row in rows]
        found.append(
            Candidate(
                name=" ".join(filter(None, [f"`{name}`", level])),
                method=name,
                several=any(sum(job.stage == "prepare_dataset" for job in each) > 1 for each in made_from),
                val=scores[VAL + metric],
                test=scores[metric],
                trainings=_mean(_seconds(each, run) for each in made_from) / unit,
                bytes=_mean(sum(run.read(job)["bytes"] for job in each if job.stage in CACHES) for each in made_from),
            )
        )
    return found


def _made_from(job: Job, run: Run) -> Collection[Job]:
    """An artefact and everything that it was made from, once each."""
    found: dict[Path, Job] = {}
    waiting = [job]
    while waiting:
        each = waiting.pop()
        if each.directory not in found:
            found[each.directory] = each
            waiting += run.upstream(each).values()
    return found.values()


def _seconds(jobs: Collection[Job], run: Run) -> float:
    return sum(float(run.read(job)["seconds"]) for job in jobs if job.stage not in NOT_COUNTED)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return fmean(found) if found else float("nan")


def _sentences(candidates: list[Candidate], selection: str) -> Iterator[str]:
    """The sentences on one dataset; none if it has no students."""
    students = [each for each in candidates if each.method not in NOT_STUDENTS]
    reference = next((each for name in REFERENCES for each in candidates if each.method == name), None)
    if not students or reference is None:
        return
    best = _best(students)
    several, alone = ([each for each in students if each.several is wanted] for wanted in (True, False))
    if several:
        yield f"distilling from several datasets {_answer(_best(several), reference)}."
    on_test = f"on test {_gain(best, reference)} over {reference.name}, at the cost of {best.cost}"
    if best.mean_val >= reference.mean_val:
        why = f"of all students the best on val ({best.mean_val:.1f}, weights: {selection})"
        yield f"Take {best.name}, {why}: {on_test}."
    else:
        yield (
            f"Keep {reference.name}: on val it is ahead ({reference.mean_val:.1f}, weights: {selection}) of the best"
            f" student, {best.name} ({best.mean_val:.1f}), which has {on_test}."
        )
    for group, what in ((several, "several datasets"), (alone, "its own dataset alone")):
        if group and best not in group:
            other = _best(group)
            yield f"The best student of {what}, {other.name}, has {_gain(other, reference)}, at {other.cost}."
    for baseline in (each for each in candidates if each.method == "joint_baseline"):
        yield (
            f"{baseline.name}, one network trained with the labels of all datasets, has {_gain(baseline, reference)},"
            f" at {baseline.cost}; against {best.name} that is {_gain(baseline, best)}."
        )


def _best(candidates: list[Candidate]) -> Candidate:
    return max(candidates, key=lambda each: each.mean_val)


def _answer(student: Candidate, reference: Candidate) -> str:
    gain = paired_gain(student.test, reference.test)
    if not gain.is_seen:
        return "made no difference that can be seen"
    return "helps" if gain.mean > 0 else "does harm"


def _gain(student: Candidate, reference: Candidate) -> str:
    """`+1.4 ± 0.4 points (p = 0.02)`."""
    gain = paired_gain(student.test, reference.test)
    if gain.se != gain.se:  # not a number
        return f"{gain.mean:+.1f} points (of one seed: this may be chance)"
    seen = "" if gain.is_seen else ": no difference seen"
    return f"{gain.mean:+.1f} ± {gain.se:.1f} points (p = {gain.p:.2g}{seen})"


def as_html(text: str) -> str:
    """A verdict as paragraphs of HTML."""

    def shown(found: re.Match[str]) -> str:
        """The character that a backslash escapes, written so that it begins no markup below."""
        return found[1] if len(found[1]) > 1 else f"&#{ord(found[1])};"

    marked = re.sub(r"\\(&#?\w+;|.)", shown, html.escape(text))
    marked = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", marked)
    marked = re.sub(r"`(.+?)`", r"<code>\1</code>", marked)
    return "".join(f"<p>{paragraph}</p>" for paragraph in marked.split("\n\n") if paragraph)


def as_rst(text: str) -> str:
    """A verdict as paragraphs of reStructuredText, for Snakemake's report, which takes it for a template of Jinja."""
    return re.sub(r"(?<!\\)`", "``", text).replace("{", "{{ '{' }}")
