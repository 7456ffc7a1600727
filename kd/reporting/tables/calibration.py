"""Whether networks are as sure as they are right, before distillation and after."""

from __future__ import annotations

from kd.artefacts.job import Job
from kd.reporting.base import Run, Table
from kd.reporting.predictions import (
    networks_of,
    over_seeds,
    place_of,
    predictions_by_network,
    rows_without_sweeps,
)

VALUES = ("ece", "nll", "confidence", "accuracy")


class Report(Table):
    """`calibration.csv` and `calibration.html`."""

    READS_FILES = True
    CAPTION = """\
Calibration on test, mean and standard deviation over seeds, without sweeps: before distillation (*individual*) and
after. *ece*: expected calibration error in percent, 15 bins of equal width (Guo et al., 2017). *nll*: negative
log-likelihood in nats, mean over samples (multi-label: binary cross-entropy, mean over samples and labels).
*confidence*: mean probability in percent of the class that is predicted, and *accuracy*: how often it is right; for
multi-label datasets the mean probability of all labels, and the share of them that samples have.
"""

    def reads(self, run: Run) -> list[Job]:
        """Networks, but for those of sweeps."""
        return networks_of(rows_without_sweeps(run))

    def texts(self, run: Run) -> dict[str, str]:
        """The table."""
        from kd.reporting.calibration import calibration
        from kd.reporting.layout import STYLE, html_table, with_spreads

        lines = []
        for rows, predictions in predictions_by_network(run):
            found = calibration(predictions)
            lines += [place_of(row) | {name: getattr(found, name) for name in VALUES} for row in rows]
        table = over_seeds(run, lines, VALUES)
        short = with_spreads(table, {"ece": 2, "nll": 3, "confidence": 1, "accuracy": 1})
        title = f"calibration on test, mean ± std over seeds, weights: {run.selection}"
        return {
            "calibration.csv": table.round(5).to_csv(index=False),
            "calibration.html": f"{STYLE}<p>{title}</p>{html_table(short)}",
        }
