"""The configs of L2D's experiments, on data in the layout of the real ones: planned whole, without an image read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from kd.cli.forecast import expect
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.data.options import SplitOptions
from kd.planning.plan import Plan
from kd.reporting.tables.papers import PAPERS
from kd.reporting.tables.papers import Report as Papers
from tests.conftest import ROOT
from tests.data.layouts import make_coco, make_nus_wide, make_voc

EXPERIMENTS = ROOT / "config/l2d"
LAYOUTS: dict[str, Callable[[Path], Path]] = {"voc2007": make_voc, "coco2014": make_coco, "nus_wide": make_nus_wide}


def test_faulty_list__is_found_by_the_forecast_that_each_run_begins_with(tmp_path: Path) -> None:
    raw = yaml.safe_load((EXPERIMENTS / "voc2007.yaml").read_text()) | {"results": str(tmp_path / "results")}
    raw["datasets"]["voc2007"]["source"]["root"] = str(make_voc(tmp_path))
    (tmp_path / "VOC2007/JPEGImages/000007.jpg").unlink()
    plan = Plan(load_config(raw))
    with pytest.raises(UserError, match=r"^datasets.voc2007: .*trainval.txt, line 2: .*000007.jpg: no such image file"):
        expect(plan)


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_config__has_every_row_of_the_paper(tmp_path: Path, name: str) -> None:
    raw = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())
    raw["datasets"][name]["source"]["root"] = str(LAYOUTS[name](tmp_path / "data"))
    plan = Plan(load_config(raw))
    assert SplitOptions.model_validate(plan.stage("prepare_dataset")[0].spec["split"]).val == 0.1
    assert len(plan.stage("fetch_weights")) == len(raw["models"])
    # Each pair of the paper's tables has all of its rows, and the teacher that it names.
    printed = pd.read_csv(PAPERS / "l2d.csv")
    pairs = printed.loc[printed["dataset"] == name, ["teacher", "student"]].drop_duplicates()
    for teacher, student in pairs.itertuples(index=False):
        own = [
            row for row in plan.rows if row.experiment == f"{teacher}_{student}" and row.seed == 0 and not row.variant
        ]
        assert {row.method for row in own} == {
            "individual",
            "vanilla",
            "rkd",
            "pkt",
            "reviewkd",
            "mse",
            "ps",
            "mld",
            "l2d",
        }
        individual = next(row.job for row in own if row.method == "individual")
        assert individual.name == f"{teacher}-seed0"
        (papers,) = (each for each in plan.config.reports.asked() if isinstance(each, Papers))
        compared = [each for each in papers.comparisons if each.experiment == f"{teacher}_{student}"]
        assert compared
