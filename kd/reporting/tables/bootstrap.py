"""What the choice of the test samples does to gains: a paired bootstrap, beside their spread over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kd.artefacts.job import Job
from kd.reporting.base import Run, Table
from kd.reporting.predictions import (
    NAMES,
    hits,
    names_of,
    networks_of,
    predictions_by_network,
    rows_without_sweeps,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from kd.training.predictions import Predictions

RESAMPLES = 2000
SEED = 0
INTERVAL = (0.025, 0.975)
COLUMNS = (*NAMES, "metric", "reference", "n_seeds", "samples", "gain", "low", "high", "gain_std")
BLOCK = 1 << 21  # drawn samples that are worked on at a time


class Report(Table):
    """`bootstrap.csv` and `bootstrap.html`."""

    READS_FILES = True
    CAPTION = """\
Uncertainty of the test set, not of training. *gain*: points of acc@1 (multi-label: mAP) over the *reference* of the
same seed (the student's network trained with labels alone where the experiment has it, else the individual teacher),
mean over seeds, without sweeps. *low*, *high*: 95 % interval of that mean over 2,000 resamples of the test samples,
with replacement, the same for both networks and for all seeds; mAP to first order in how often each sample is drawn.
*gain_std*: standard deviation of the gain over seeds: of training, which the interval has nothing of.
"""

    def reads(self, run: Run) -> list[Job]:
        """Networks, but for those of sweeps."""
        return networks_of(rows_without_sweeps(run))

    def texts(self, run: Run) -> dict[str, str]:
        """The table."""
        from kd.reporting.layout import STYLE, html_table

        table = bootstrap(run)
        title = f"gains on test in points, with 95 % intervals over test samples, weights: {run.selection}"
        return {
            "bootstrap.csv": table.round(3).to_csv(index=False),
            "bootstrap.html": f"{STYLE}<p>{title}</p>{html_table(table.round(2))}",
        }


def bootstrap(run: Run) -> pd.DataFrame:
    """A line for each method and level on each dataset, but for references: `COLUMNS`."""
    import numpy as np
    import pandas as pd

    from kd.reporting.statistics import in_order
    from kd.training.metrics import PRIMARY

    parts: dict[tuple[str, ...], dict[int, np.ndarray]] = defaultdict(dict)
    metrics = {}
    for rows, predictions in predictions_by_network(run):
        metrics[rows[0].dataset] = PRIMARY["multi_label" if predictions.labels.ndim == 2 else "single_label"]
        found = contributions(predictions)
        for row in rows:
            parts[names_of(row)][row.seed] = found
    lines: list[dict[str, Any]] = []
    differences: dict[str, list[np.ndarray]] = defaultdict(list)
    for place, ours in parts.items():
        experiment, dataset, method, _ = place
        reference = _reference(parts, experiment, dataset)
        theirs = parts.get((experiment, dataset, reference, ""), {})
        by_seed = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        if method == reference or not by_seed:
            continue
        differences[dataset].append(np.mean(by_seed, axis=0))
        gains = [each.mean() for each in by_seed]
        lines.append(
            dict(zip(NAMES, place, strict=True))
            | {"metric": metrics[dataset], "reference": reference, "n_seeds": len(gains), "samples": len(by_seed[0])}
            | {"gain": np.mean(gains), "gain_std": np.std(gains, ddof=1) if len(gains) > 1 else np.nan}
        )
    intervals = {dataset: iter(interval(np.stack(several, axis=1))) for dataset, several in differences.items()}
    for line in lines:
        line["low"], line["high"] = next(intervals[line["dataset"]])
    return in_order(pd.DataFrame(lines, columns=list(COLUMNS)), run.datasets)


def _reference(parts: Mapping[tuple[str, ...], Any], experiment: str, dataset: str) -> str:
    """The method that gains are over, as in summary.csv; "" where there is none."""
    from kd.reporting.statistics import REFERENCES

    return next((method for method in REFERENCES if (experiment, dataset, method, "") in parts), "")


def interval(values: np.ndarray) -> np.ndarray:
    """Percentile intervals (Efron, 1979) of means over samples, by `RESAMPLES` resamples of the samples.

    Args:
        values: (N, columns), of the same samples in all columns; each resample is one for all columns.

    Returns:
        (columns, 2): the ends of the interval of each.
    """
    import numpy as np

    samples = len(values)
    rng = np.random.Generator(np.random.Philox(SEED))
    means = []
    step = max(1, BLOCK // samples)
    for start in range(0, RESAMPLES, step):
        count = min(step, RESAMPLES - start)
        drawn = rng.integers(0, samples, (count, samples)) + samples * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * samples).reshape(count, samples)
        means.append(times @ values / samples)
    ends: np.ndarray = np.quantile(np.concatenate(means), INTERVAL, axis=0).T
    return ends


def contributions(predictions: Predictions) -> np.ndarray:
    """(N,) float64: what each test sample adds to acc@1 or mAP; their mean is the metric, in percent.

    Of acc@1 that is 100 or 0, and the metric of a resample is the mean over its samples. mAP is no mean over samples:
    there it is mAP plus N times its derivative by the weight of the sample, so that the mean over a resample is its mAP
    to first order (the infinitesimal jackknife; Efron, 1982). To rank all samples anew in each resample would take
    minutes for each network.
    """
    import numpy as np

    if predictions.labels.ndim == 1:
        return 100.0 * hits(predictions)
    samples = len(predictions.labels)
    total, classes = np.zeros(samples), 0
    for scores, positive in zip(predictions.logits.T, predictions.labels.T > 0, strict=True):
        if positive.any():
            precision, derivative = average_precision(scores, positive)
            total += precision + samples * derivative
            classes += 1
    return 100 * total / max(classes, 1)


def average_precision(scores: np.ndarray, positive: np.ndarray) -> tuple[float, np.ndarray]:
    """Average precision of a class, in 0..1, as `kd.training.metrics` has it, and its derivative by weights.

    With weights w of the samples, all 1 here, it is the sum over positive i of w_i T_i / N_i, over that of w_i; T_i and
    N_i are the weights of the positives, and of all samples, whose scores are not below that of i.

    Args:
        scores: (N,).
        positive: (N,) bool, not all false.

    Returns:
        The average precision; and (N,) its derivative by the weight of each sample, whose sum is 0.
    """
    import numpy as np

    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], positive[order].astype(float)
    is_last = np.append(ranked[1:] != ranked[:-1], True)  # of each run of equals, which share a threshold
    threshold = np.cumsum(is_last) - is_last
    above = np.flatnonzero(is_last) + 1.0
    found = right.cumsum()[is_last]
    gained, precision = np.diff(found, prepend=0), found / above
    average = float((gained * precision).sum() / found[-1])
    # A weight counts in T and N of all positives at its threshold and below.
    in_found, in_above = (_from_here_on(gained / above), _from_here_on(gained * precision / above))
    derivative = np.empty(len(scores))
    derivative[order] = right * ((precision - average) + in_found)[threshold] - in_above[threshold]
    return average, derivative / found[-1]


def _from_here_on(values: np.ndarray) -> np.ndarray:
    """Sums of each value and those behind it."""
    return values[::-1].cumsum()[::-1]
