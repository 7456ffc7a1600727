"""The main table: what every network reaches on test, its gain, and the verdict on the run in words."""

from __future__ import annotations

from kd.artefacts.job import Job
from kd.reporting.base import Run, Table

FRONT_PAGE = """\
Individual teachers, joint teachers that fuse their cached embeddings, and students distilled from them: test acc@1
(multi-label: mAP) with its gain over the student's network trained with labels alone, where the experiment has one,
else over the individual teacher of each dataset; and what it cost. Config, versions and what was left out of the data
are under *Provenance*.
"""


class Report(Table):
    """`summary.csv` and, for people, `summary.md` and `summary.html` below the verdict; `measurements.csv`."""

    CAPTION = """\
Test metrics in percent: mean and standard deviation over seeds. *mAP*: mean over classes of the average precision of
each, on single-label datasets that of its softmax probability. *Gain*: points over the student's network trained with
labels alone (the method *vanilla*) where the experiment has it, else over the individual teacher of the dataset, paired
by seed; *gain_se*: standard error of that mean. *best_val*: weights of the epoch with the best acc@1 (multi-label: mAP)
on val; *last*: weights of the last epoch. Test was read once for each, after training.
"""

    def reads(self, run: Run) -> list[Job]:
        """Everything, since the verdict says what it cost."""
        return list(run.jobs.values())

    def texts(self, run: Run) -> dict[str, str]:
        """The table, in short for people below the verdict; what it was computed from; the front page of the report."""
        from kd.reporting.layout import STYLE, html_table, markdown, readable
        from kd.reporting.statistics import measurements, primary_metrics, summary
        from kd.reporting.verdict import as_html, as_rst, verdict

        measured = measurements(run)
        table, told = summary(measured, run.datasets), verdict(run, measured)
        short = readable(table, run.selection)
        metrics = " or ".join(dict.fromkeys(primary_metrics(table).values()))
        title = f"test {metrics} in percent, mean ± std over seeds (gain), weights: {run.selection}"
        whole = html_table(table)
        page = f"{as_html(told)}<p>{title}</p>{html_table(short)}<p>Gains with their standard errors:</p>{whole}"
        return {
            "summary.csv": table.to_csv(index=False),
            "summary.md": "\n\n".join(filter(None, [told, title, markdown(short)])),
            "summary.html": STYLE + page,
            "front_page.rst": f"{as_rst(told)}\n\n{FRONT_PAGE}",
            "measurements.csv": measured.to_csv(index=False),
        }
