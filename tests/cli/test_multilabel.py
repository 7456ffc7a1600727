"""Multi-label data from end to end, in this process: every method, a joint teacher, a sweep, and what commands say."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from kd.artefacts.disk import Free
from kd.artefacts.job import Job
from kd.artefacts.manifest import load_manifest, read_manifest
from kd.cli import forecast
from kd.cli.forecast import expect
from kd.cli.publish import publish
from kd.cli.verify import verify
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.data.packed import open_split, read_info
from kd.distillers.registry import METHODS, load_distiller
from kd.embeddings.encoding import pack_positives, unpack_positives
from kd.embeddings.options import POSITIVES
from kd.embeddings.store import open_columns
from kd.models.prediction import predict_files
from kd.planning.plan import Plan
from kd.reporting.figures.attention import Report as Attention
from kd.stages import cache_embeddings
from kd.stages.registry import STAGES
from tests.conftest import ROOT, make
from tests.training.chain import check_predictions

Config = dict[str, Any]


@pytest.fixture
def config() -> Config:
    raw: Config = yaml.safe_load((ROOT / "tests/multilabel.yaml").read_text())
    return raw


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """All of tests/multilabel.yaml, with tables and figures."""
    torch.set_num_threads(1)
    raw = yaml.safe_load((ROOT / "tests/multilabel.yaml").read_text())
    results = tmp_path_factory.mktemp("multilabel") / "results"
    plan = Plan(load_config(raw | {"results": str(results)}))
    for job in plan.jobs.values():
        make(job)
    publish(plan, "tables")
    publish(plan, "figures")
    return plan


def named(plan: Plan, stage: str, start: str) -> list[Job]:
    return [job for job in plan.stage(stage) if job.name.startswith(start)]


def test_config__has_every_method_that_is_for_several_labels(config: Config) -> None:
    able = {name for name in METHODS.names() if "multi_label" in load_distiller(name).TASKS}
    assert {student["distiller"]["name"] for student in config["students"].values()} == able


def test_tables__every_method_is_a_row(made: Plan) -> None:
    table = pd.read_csv(made.folder / "tables/multilabel.csv", dtype={"level": str})
    own = table[(table["dataset"] == "digits") & (table["experiment"] == "tiny_multilabel")]
    names = set(made.config.students) - {"live"}
    assert set(own["method"]) == names | {"individual", "joint_teacher"}
    assert own[["mAP", "OF1@k", "CF1@k", "OF1", "CF1"]].apply(lambda column: column.between(0, 100)).all().all()
    classes = pd.read_csv(made.folder / "tables/per_class.csv")
    assert set(classes.loc[classes["dataset"] == "letters", "class"]) == set("ABEGHKMRTX")
    variants = pd.read_csv(made.folder / "tables/summary.csv")["variant"].dropna()
    assert set(variants) == {"mld_weight=0", "mld_weight=10"}
    beside = (made.folder / "tables/papers.md").read_text()
    assert "| mAP paper | mAP ours |" in beside
    assert len([line for line in beside.splitlines() if line.endswith("| everything |")]) == len(set(own["method"]))
    for name in ("attention", "sensitivity", "accuracy"):
        assert "<svg" in (made.folder / f"figures/{name}.svg").read_text()


def test_predictions__give_the_metrics_of_every_network(made: Plan) -> None:
    jobs = [job for job in made.run().jobs.values() if STAGES[job.stage].work == "training"]
    assert {job.stage for job in jobs} == {"train_teacher", "train_joint_teacher", "distill_student"}
    for job in jobs:
        datasets = [up.directory for role, up in job.upstream.items() if role.split(":")[0] == "dataset"]
        manifest = read_manifest(job)
        assert f"predictions-{read_info(datasets[0]).name}.npz" in {record["path"] for record in manifest["files"]}
        check_predictions(job.directory, datasets, manifest["result"]["metrics"])


def test_sweep__the_value_of_the_student_itself_is_not_trained_again(made: Plan) -> None:
    rows = {row.variant: row.job for row in made.rows if row.method == "l2d" and row.experiment == "tiny_multilabel"}
    assert rows["mld_weight=10"] is rows[""]
    assert rows["mld_weight=0"] is not rows[""]


def test_stores__hold_what_methods_need(made: Plan) -> None:
    """Of the own teacher: logits, vectors, maps and label embeddings; of the other one what the joint teacher fuses."""
    arrays = {
        (job.name, job.spec["cache"]["label_embeddings"]): job.spec["arrays"]
        for job in made.jobs.values()
        if job.stage == "cache_embeddings"
    }
    assert arrays == {
        ("digits-on-digits-seed0", "all"): ["logits", "L1", "L2", "L3", "L4", "label_embeddings"],
        ("digits-on-digits-seed0", "positives"): ["logits", "label_embeddings"],
        ("letters-on-digits-seed0", "all"): ["L2"],
    }
    (targets,) = made.stage("cache_targets")
    assert targets.spec["arrays"] == ["logits", "label_embeddings"]
    assert targets.spec["cache"]["label_embeddings"] == "positives"
    assert set(targets.upstream) == {"dataset", "joint_teacher", "embeddings:digits", "embeddings:letters"}
    vanilla, live = (named(made, "distill_student", name)[0] for name in ("vanilla", "live"))
    assert set(vanilla.upstream) == {"dataset"}
    assert set(live.upstream) == {"dataset", "teacher:digits"}


def test_positives__are_what_the_store_of_all_labels_has_of_them(made: Plan) -> None:
    stores = {job.spec["cache"]["label_embeddings"]: job for job in named(made, "cache_embeddings", "digits")}
    dataset = made.jobs[stores["all"].upstream["dataset"].directory].directory
    for name in ("train", "test"):
        split = open_split(dataset, name)
        rows, labels = slice(0, len(split.ids)), torch.from_numpy(split.labels)
        whole = open_columns(stores["all"].directory, split, ["label_embeddings"])
        packed = open_columns(stores["positives"].directory, split, [POSITIVES])
        found = unpack_positives(packed[POSITIVES].read(rows, 0), labels)
        assert packed[POSITIVES].row_shape[0] == split.info.most_labels < labels.shape[1]
        torch.testing.assert_close(
            found, whole["label_embeddings"].read(rows, 0) * labels[..., None], rtol=1e-3, atol=1e-3
        )


def test_pack_positives__round_trip_with_none_and_with_all() -> None:
    embeddings = torch.randn(4, 5, 3)
    labels = torch.tensor([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 0, 1], [0, 0, 0, 0, 1]], dtype=torch.uint8)
    packed = pack_positives(embeddings, labels, 5)
    assert torch.equal(packed[2, :2], embeddings[2, [1, 4]])
    assert not packed[0].any()
    assert torch.equal(unpack_positives(packed, labels), embeddings * labels[..., None])
    assert torch.equal(
        unpack_positives(pack_positives(embeddings[2:], labels[2:], 2), labels[2:]),
        embeddings[2:] * labels[2:, :, None],
    )


def test_verify__finds_nothing_wrong(made: Plan) -> None:
    lines = list(verify(made, [], 20))
    assert len([line for line in lines if line.startswith("ok ")]) == len(made.jobs)
    assert not [line for line in lines if line.startswith("WRONG")]


def test_forecast__is_what_lies_there(made: Plan, config: Config, tmp_path: Path) -> None:
    planned = Plan(load_config(config | {"results": str(tmp_path)}))
    expected = {(each.job.stage, each.job.key): each.size for each in expect(planned)}
    for job in made.run().jobs.values():
        manifest = load_manifest(job.directory)
        assert manifest is not None
        small = sum(record["bytes"] for record in manifest["files"] if record["path"].endswith((".json", ".csv")))
        assert expected[job.stage, job.key].bytes == pytest.approx(manifest["bytes"] - small, rel=0.02, abs=16_000)


def test_forecast__names_the_cheaper_choice_where_label_embeddings_do_not_fit(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = Plan(load_config(config | {"results": str(tmp_path)}))
    expected = {
        each.job.name: each
        for each in expect(planned)
        if each.job.spec.get("cache", {}).get("label_embeddings") == "all"
    }
    assert expected["digits-on-digits-seed0"].savings > 0
    assert expected["letters-on-digits-seed0"].savings == 0
    monkeypatch.setattr(forecast, "free_space", lambda results: Free(results, 1, None, 4096))
    with pytest.raises(UserError, match=r"label_embeddings: positives, which saves \d") as refused:
        list(forecast.check_fit(planned, set(planned.jobs)))
    *_, warning = forecast.forecast_table(planned)
    assert warning.startswith("warning: results: ")
    assert str(refused.value).startswith(warning.removeprefix("warning: "))
    document = json.loads("\n".join(forecast.forecast_json(planned)))
    saved = {each["name"]: each["savings_bytes"] for each in document["artefacts"] if each["savings_bytes"]}
    assert saved["digits-on-digits-seed0"] == expected["digits-on-digits-seed0"].savings


def test_forecast__what_a_growing_store_of_positives_takes_over_is_not_counted(made: Plan, config: Config) -> None:
    config["students"]["l2d"]["views"] = 3
    grown = Plan(load_config(config | {"results": str(made.config.results)}))
    (store,) = (each for each in expect(grown) if each.job.stage == "cache_embeddings" and not each.there)
    (smaller,) = store.job.kin(cache_embeddings.UNREAD)
    chunks = [path for name in ("logits", POSITIVES) for path in smaller.rglob(f"{name}/c.*")]
    assert store.job.spec["arrays"] == ["logits", "label_embeddings"]
    assert store.size.bytes - store.missing.bytes == sum(path.stat().st_size for path in chunks)


def test_predict__a_student_with_a_label_encoder(made: Plan, tmp_path: Path) -> None:
    (student, *_) = named(made, "distill_student", "l2d-")
    split = open_split(made.jobs[student.upstream["dataset"].directory].directory, "test")
    Image.fromarray(split.images.read(slice(0, 1))[0, :, :, 0]).save(tmp_path / "scene.png")
    ((_, found),) = predict_files(student.directory, tmp_path / "scene.png", 10)
    assert not isinstance(found, UserError)
    assert len(found) == 10
    assert sum(probability for _, probability in found) != pytest.approx(1)  # each label by itself
    assert all(0 <= probability <= 1 for _, probability in found)


PAPER: Config = {
    "paper": "l2d",
    "where": {"table": "S3", "teacher": "resnet50", "student": "resnet18"},
    "dataset": "digits",
    "differs": "everything",
}
MISTAKES: list[tuple[str, Any, str]] = [
    (
        "students.mld.distiller",
        {"name": "kd"},
        "students.mld.distiller.name: kd, but 'digits' is multi_label; expected one",
    ),
    ("models.byobnet.label_encoder", None, "models.byobnet.label_encoder: missing; students.cd.distiller compares"),
    ("joint_teachers.joint.label_encoder", None, "joint_teachers.joint.label_encoder: missing; students.joint_l2d"),
    ("models.resnet.latent_dim", 8, "latent_dim: 8, expected null, since there is a label_encoder"),
    ("models.resnet.label_encoder", {"width": 16, "heads": 3}, "heads: 3, expected a divisor of width"),
    ("students.rkd.level", "L2", "students.rkd.level: given L2, but rkd says itself what it compares"),
    ("students.l2d.sweep", {"mldweight": [1]}, "students.l2d.sweep: unknown key 'mldweight', expected some of"),
    ("students.l2d.sweep", {"name": [1]}, "students.l2d.sweep: unknown key 'name', expected some of ['label_weight'"),
    (
        "students.l2d.sweep",
        {"mld_weight": [-1]},
        "students.l2d.sweep.mld_weight: input should be greater than or equal",
    ),
    ("students.l2d.sweep", {"mld_weight": [10, 10.0]}, "students.l2d.sweep: mld_weight: each value may stand once"),
    (
        "students.joint_l2d.distiller",
        {"name": "reviewkd"},
        "reviewkd compares L4, but joint teacher 'joint', fused at L2",
    ),
    ("datasets.letters.task", "single_label", "datasets.letters.source"),
    ("joint_teachers.joint.level", "L1", "joint_teachers.joint.label_encoder: given, but at level L1 there is no map"),
    ("reports.attention.dataset", "dogs", "reports.attention.dataset: 'dogs', expected one of digits, letters"),
    (
        "reports.attention",
        {"dataset": "letters"},
        "reports.attention.methods: 'vanilla' is no method of a network that sees images; expected some of individual",
    ),
    (
        "reports.attention.methods",
        ["joint_teacher"],
        (
            "reports.attention.methods: 'joint_teacher' is no method of a network that sees images; expected some of"
            " vanilla, "
        ),
    ),
    (
        "reports.attention.experiment",
        "lives",
        "reports.attention.experiment: 'lives' has no row for dataset 'digits'; those that have one: tiny_multilabel,",
    ),
    ("reports.papers", [PAPER | {"experiment": "no"}], "reports.papers.0.experiment: 'no' has no row for dataset"),
    (
        "reports.papers",
        [PAPER, PAPER | {"where": {"tables": 3}}],
        "reports.papers.1.where: l2d.csv has no column 'tables', expected some of table, setting",
    ),
    (
        "reports.papers",
        [PAPER | {"where": {"table": "S9"}}],
        "reports.papers.0.where.table: 'S9', expected some of 'S1', 'S2', 'S3', 'S4'",
    ),
    (
        "reports.papers",
        [PAPER | {"where": {"table": "S3"}}],
        "reports.papers.0.where: several numbers for individual mAP; pick out one experiment by teacher, student",
    ),
    (
        "reports.papers",
        [PAPER | {"where": {}}],
        "reports.papers.comparisons.0.where: dictionary should have at least 1 item",
    ),
    (
        "students.l2d",
        {
            "teacher": {"digits": "digits"},
            "targets": ["digits", "letters"],
            "recipe": "network",
            "distiller": {"name": "l2d"},
        },
        "students.l2d.teacher: names no teacher for target 'letters'; given: {'digits': 'digits'}",
    ),
    ("students.l2d.teacher", {}, "students.l2d.teacher: value should have at least 1 item"),
]


@pytest.mark.parametrize(("key", "value", "said"), MISTAKES, ids=lambda each: str(each)[:30])
def test_mistakes(config: Config, key: str, value: Any, said: str) -> None:
    changed = copy.deepcopy(config)
    *parents, last = key.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(UserError) as error:
        Plan(load_config(changed))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("student", "said"),
    [
        (
            {"teacher": "individual"},
            "students.l2d.teacher: must be given, as dataset 'digits' has no individual teacher",
        ),
        (
            {"teacher": "joint", "model": None},
            "students.l2d.model: must be given, as dataset 'digits' has no individual",
        ),
    ],
)
def test_mistakes__a_target_without_an_individual_teacher(config: Config, student: Config, said: str) -> None:
    del config["teachers"]["digits"]
    config["joint_teachers"]["joint"]["student_model"] = "byobnet"
    config["students"] = {"l2d": config["students"]["l2d"] | student}
    with pytest.raises(UserError) as error:
        load_config(config)
    assert said in str(error.value)


def test_attention__of_a_row_with_several_levels_names_one(config: Config) -> None:
    config["joint_teachers"]["deep"] = config["joint_teachers"]["joint"] | {"level": "L3"}
    config["students"]["deep_l2d"] = config["students"]["joint_l2d"] | {"teacher": "deep"}
    config["reports"]["attention"]["methods"] = ["joint_l2d"]
    with pytest.raises(UserError) as error:
        Plan(load_config(config))
    assert "methods: 'joint_l2d' is a method of several levels; expected some of joint_l2d L2, joint_l2d L3" in str(
        error.value
    )
    config["reports"]["attention"]["methods"] = ["joint_l2d L3", "l2d"]
    plan = Plan(load_config(config))
    (attention,) = (each for each in plan.config.reports.asked() if isinstance(each, Attention))
    assert {name: job.name for name, job in attention.networks(plan.run()).items()} == {
        "joint_l2d L3": "deep_l2d-for-digits-seed0",
        "l2d": "l2d-for-digits-seed0",
    }
