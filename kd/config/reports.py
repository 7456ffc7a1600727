"""What tables and figures show; each of them adds its own section."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import create_model

from kd.common.options import BaseOptions
from kd.reporting.base import Report
from kd.reporting.registry import reports


class ReportOptions(BaseOptions):
    """Options of tables and figures. Reports with a section of their own are made when it is given."""

    title: str = "Knowledge distillation from many datasets"
    """Heading of figures."""
    selection: Literal["best_val", "last"] = "best_val"
    """Weights whose test accuracy is shown by figures, summary.md and the tables of predictions; summary.csv has
    both."""
    format: Literal["svg", "png", "pdf"] = "svg"
    """File format of figures."""
    tensorboard: bool = False
    """Trainings write event files for TensorBoard, too; `tensorboard --logdir results` shows them."""

    def asked(self) -> Iterator[Report]:
        """Tables and figures for which the config has options."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Report):
                yield value


if TYPE_CHECKING:
    ReportConfig = ReportOptions
else:
    with_options = {each.name(): (each | None, None) for each in reports() if each.model_fields}
    ReportConfig = create_model("ReportConfig", __base__=ReportOptions, __doc__=ReportOptions.__doc__, **with_options)
