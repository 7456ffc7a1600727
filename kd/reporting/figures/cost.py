"""What a run cost: wall-clock by stage, cached bytes by level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.artefacts.job import Job
from kd.reporting.base import Figure, Run
from kd.reporting.tables.cost import cost

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawn


class Report(Figure):
    """Two panels."""

    CAPTION = """\
Left: wall-clock of all jobs of a stage, in units of one individual training. Right: cached embeddings by level.
"""

    def reads(self, run: Run) -> list[Job]:
        """Everything."""
        return list(run.jobs.values())

    def draw(self, run: Run) -> Drawn:
        """The figure of a run with stores or without."""
        import matplotlib.pyplot as plt

        from kd.reporting.drawing import write_title

        table = cost(run)
        stages = table[table["kind"] == "stage"]
        levels = table[table["kind"] == "level"]
        figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
        labels = [f"{name} x {jobs:.0f}" for name, jobs in zip(stages["name"], stages["jobs"], strict=True)]
        axes[0].barh(labels, stages["individual_trainings"].astype(float), color="#1f77b4")
        axes[0].set(xlabel="wall-clock, in individual trainings", title="all jobs of a stage")
        axes[0].invert_yaxis()
        if len(levels):
            bars = axes[1].bar(levels["name"], levels["bytes"].astype(float) / 1e6, color="#d62728")
            per_sample = [f"{value:,.0f} B per sample" for value in levels["bytes_per_sample"].astype(float)]
            axes[1].bar_label(bars, per_sample, fontsize=8)
            axes[1].margins(y=0.15)
        axes[1].set(ylabel="cached, MB", title="all teachers, datasets, views, seeds")
        write_title(figure, run.title)
        figure.tight_layout()
        return figure
