"""The config of MLFD's action recognition: planned whole on videos in the layouts of the real ones, and without any."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kd.cli.forecast import check_fit
from kd.common.errors import UserError
from kd.config.load import load_config, read_config
from kd.planning.plan import Plan
from kd.reporting.tables.papers import Report as Papers
from kd.reporting.tables.papers import by_dataset, printed_numbers
from tests.conftest import ROOT
from tests.data.video_layouts import VIDEO_MAKERS
from tests.models.test_mmaction_checkpoints import write

CONFIG = ROOT / "config/mlfd/action.yaml"
DATASETS = ("activitynet", "hmdb51", "ucf101")
SEEDS = 3


def config_of(folder: Path) -> dict[str, Any]:
    """With checkpoints, and without data."""
    raw = read_config(CONFIG) | {"results": str(folder / "results")}
    for name, model in raw["models"].items():
        path = folder / Path(model["weights"]["path"]).name
        write(path, "mmaction", shifted=name == "tsm")
        model["weights"]["path"] = str(path)
    for name in DATASETS:
        raw["datasets"][name]["source"]["root"] = str(folder / name)
    return raw


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("action")
    for name in DATASETS:
        (folder / name).mkdir()
        VIDEO_MAKERS[name](folder / name)
    return Plan(load_config(config_of(folder)))


def test_config__plans_what_the_paper_compares(plan: Plan) -> None:
    found = Counter(job.stage for job in plan.jobs.values())
    wanted = {
        "train_teacher": 3,
        "cache_embeddings": 9,
        "train_joint_teacher": 3,
        "cache_targets": 3,
        "distill_student": 3,
    }
    assert {stage: found[stage] / SEEDS for stage in wanted} == wanted
    assert (found["prepare_dataset"], found["fetch_dataset"], found["train_baseline"]) == (3, 0, 0)
    backbones = {
        (job.name.split("-")[0], job.spec["model"]["backbone"], job.spec["model"]["architecture"])
        for job in plan.stage("train_teacher")
    }
    assert backbones == {
        ("activitynet_tsn", "tsn", "resnet50"),
        ("hmdb51_tsm", "tsm", "resnet50"),
        ("ucf101_tsm", "tsm", "resnet50"),
    }
    for job in plan.stage("prepare_dataset"):
        assert job.spec["modality"] == "clip"
        assert job.spec["sample"]["segments"] == 8
        assert job.spec["source"].get("fold", 1) == 1


def test_config__fits(plan: Plan) -> None:
    """Networks take these clips and checkpoints, and val can be drawn by whole groups."""
    count = len(plan.run().jobs)
    assert next(iter(check_fit(plan, [*plan.jobs]))).startswith(f"still to be made: {count} of {count}, ")


def test_config__has_each_number_of_the_paper_beside_its_row(plan: Plan) -> None:
    (papers,) = (each for each in plan.config.reports.asked() if isinstance(each, Papers))
    compared = [one for each in papers.comparisons for one in by_dataset(each, plan.run())]
    assert [each.dataset for each in compared] == list(DATASETS)
    for each in compared:
        own = {(row.method, row.level or "") for row in plan.rows if row.dataset == each.dataset}
        assert {(method, level) for method, level, _ in printed_numbers(each)} == own
        assert {metric for *_, metric in printed_numbers(each)} == {"acc@1", "mAP"}


def test_config__without_checkpoints_and_videos_says_what_lacks(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"models.tsn.weights.path: .*tsn_r50_320p_.*ef80e3d7.pth is not a file\n.*tsm_r50"
    ):
        load_config(read_config(CONFIG))
    with pytest.raises(UserError) as raised:
        Plan(load_config(config_of(tmp_path)))
    assert "activitynet: source.root" in str(raised.value)
    assert "get activity_net.v1-3.min.json" in str(raised.value)
