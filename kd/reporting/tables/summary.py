"""The main table: what every network reaches on test, its gain, and the verdict on the run in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kd.artefacts.job import Job
from kd.reporting.base import Run, Table

if TYPE_CHECKING:
    import pandas as pd

FRONT_PAGE = """\
Individual teachers, joint teachers that fuse their cached embeddings, and students distilled from them: test acc@1
(multi-label: mAP) with its gain over the student's network trained with labels alone, where the experiment has one,
else over the individual teacher of each dataset; and what it cost. Config, versions and what was left out of the data
are under *Provenance*.
"""


class Report(Table):
    """`summary.csv` and, for people, `summary.md` and `summary.html` below the verdict; `measurements.csv`."""

    CAPTION: ClassVar[str] = """\
Test metrics in percent: mean and standard deviation over seeds. *Gain*: points over the student's network trained with
labels alone (the method *vanilla*) where the experiment has it, else over the individual teacher of the dataset, paired
by seed; *gain_se*: standard error of that mean. *best_val*: weights of the epoch with the best acc@1 (multi-label: mAP)
on val; *last*: weights of the last epoch. Test was read once for each, after training.
"""

    def reads(self, run: Run) -> list[Job]:
        """Everything, since the verdict says what it cost."""
        return list(run.jobs.values())

    def texts(self, run: Run) -> dict[str, str]:
        """The table, what it was computed from, and the front page of the report."""
        from kd.reporting.statistics import measurements, summary
        from kd.reporting.verdict import as_rst, verdict

        measured = measurements(run)
        told = verdict(run, measured)
        return summary_texts(summary(measured, run.datasets), run.selection, told) | {
            "front_page.rst": f"{as_rst(told)}\n\n{FRONT_PAGE}",
            "measurements.csv": measured.to_csv(index=False),
        }


def summary_texts(table: pd.DataFrame, selection: str, told: str) -> dict[str, str]:
    """All of `summary`; in short for people, below the verdict `told`."""
    from kd.reporting.layout import STYLE, html_table, markdown, readable
    from kd.reporting.statistics import primary_metrics
    from kd.reporting.verdict import as_html

    short = readable(table, selection)
    metrics = " or ".join(dict.fromkeys(primary_metrics(table).values()))
    title = f"test {metrics} in percent, mean ± std over seeds (gain), weights: {selection}"
    whole = html_table(table)
    page = f"{as_html(told)}<p>{title}</p>{html_table(short)}<p>Gains with their standard errors:</p>{whole}"
    return {
        "summary.csv": table.to_csv(index=False),
        "summary.md": "\n\n".join(filter(None, [told, title, markdown(short)])),
        "summary.html": STYLE + page,
    }
