"""What is forecast is what lies there in the end; what cannot be made or does not fit is refused before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kd.artefacts.disk import Free, Size, free_space
from kd.artefacts.manifest import load_manifest
from kd.cli import forecast
from kd.cli.forecast import check_fit, expect, forecast_json, forecast_table
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.data.modalities.image import Samples
from kd.data.packed import DatasetInfo
from kd.data.storage import chunk_rows
from kd.planning import forecast as sizes
from kd.planning.plan import Plan
from kd.stages import cache_embeddings
from kd.stages.registry import STAGES

Config = dict[str, Any]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder where nothing is made yet."""
    return tmp_path


def planned(config: Config, results: Path) -> Plan:
    return Plan(load_config(config | {"results": str(results)}))


def test_forecast__is_what_lies_there_in_the_end(finished: Plan, many_layouts: Config, tmp_path: Path) -> None:
    """Forecast into an empty folder, so that nothing can be looked up."""
    assert chunk_rows(40, 64) == 16  # otherwise each array would be one chunk
    expected = {(each.job.stage, each.job.name, each.job.key): each for each in expect(planned(many_layouts, tmp_path))}
    needs_network = {"fetch_dataset", "fetch_weights"}
    assert {stage for stage, _, _ in expected} == set(STAGES) - needs_network - {"table", "figure", "analysis"}
    for job in finished.run().jobs.values():
        size = expected[job.stage, job.name, job.key].size
        manifest = load_manifest(job.directory)
        assert manifest is not None
        small = sum(record["bytes"] for record in manifest["files"] if record["path"].endswith((".json", ".csv")))
        assert size.bytes == pytest.approx(manifest["bytes"] - small, rel=0.02, abs=16_000), job.name
        assert size.files == pytest.approx(2 + len(list(job.directory.rglob("*"))), abs=4), job.name


def test_forecast__counts_predictions_on_test(finished: Plan) -> None:
    """Of each dataset that a network is measured on, beside it; but for headers."""
    forecast = sizes.Forecast(finished)
    counts = set()
    for job in finished.run().jobs.values():
        files = list(job.directory.glob("predictions-*.npz"))
        assert bool(files) == (STAGES[job.stage].work == "training")
        if files:
            size, found = forecast._predictions(job), sum(path.stat().st_size for path in files)
            counts.add(len(files))
            assert size.files == len(files)
            assert 0 < found - size.bytes < 4 * 512 * len(files)
    assert counts == {1, 2}


def test_forecast__says_what_is_there(finished: Plan) -> None:
    document = json.loads("\n".join(forecast_json(finished)))
    assert all(each["there"] for each in document["artefacts"])
    assert document["needed"] == {"bytes": 0, "transient": 0, "inodes": 0}
    assert document["free"]["bytes"] > 0
    lines = list(forecast_table(finished))
    assert any(line.startswith("all ") and line.endswith("all there") for line in lines)


def test_forecast__what_an_unfinished_directory_holds_is_not_counted_again(tiny: Config, results: Path) -> None:
    (before, *_) = expect(planned(tiny, results))
    before.job.directory.mkdir(parents=True)
    (before.job.directory / "half").write_bytes(bytes(1000))
    (after, *_) = expect(planned(tiny, results))
    assert after.missing.bytes == before.missing.bytes - 1000
    assert after.size == before.size


def test_forecast__what_a_growing_store_takes_over_is_not_counted(finished: Plan, many_layouts: Config) -> None:
    """One more view of each: only that is still to be written."""
    for joint in many_layouts["joint_teachers"].values():
        if isinstance(joint.get("views"), int):
            joint["views"] += 1
    grown = planned(many_layouts, finished.config.results)
    stores = [each for each in expect(grown) if each.job.stage == "cache_embeddings" and not each.there]
    assert stores
    for each in stores:
        (smaller,) = each.job.kin(cache_embeddings.UNREAD)
        chunks = list(smaller.rglob("L*/c.*"))
        assert each.size.bytes - each.missing.bytes == sum(path.stat().st_size for path in chunks) > 0


def test_forecast__checkpoints_are_as_large_as_said(results: Path, tiny: Config) -> None:
    """Module, two moments and the best weights; the new one is written beside the old one."""
    by_name = {each.job.name: each for each in expect(planned(tiny, results))}
    state = by_name["digits_resnet-seed0"].size.bytes
    assert by_name["digits_resnet-seed0"].transient == pytest.approx(8 * state, rel=0.02)
    tiny["recipes"]["network"] |= {"optimizer": "sgd", "momentum": 0.0}
    by_name = {each.job.name: each for each in expect(planned(tiny, results))}
    assert by_name["digits_resnet-seed0"].transient == pytest.approx(4 * state, rel=0.02)


def level_that_is_not_there(config: Config) -> None:
    config["models"]["resnet"] = {"architecture": "vit_tiny_patch16_224", "kwargs": {"no_embed_class": True}}
    config["models"]["byobnet"] |= {"architecture": "crossvit_tiny_240", "input_size": [240, 240]}
    config["datasets"]["mnist5k"]["image_size"] = 224


def level_of_the_student(config: Config) -> None:
    config["models"]["flat"] = {"architecture": "crossvit_tiny_240", "input_size": [240, 240]}
    config["students"]["mlfd_l2"]["model"] = "flat"


def level_of_single_dataset_distillation(config: Config) -> None:
    config["models"]["byobnet"] = {"architecture": "crossvit_tiny_240", "input_size": [240, 240]}
    config["joint_teachers"]["joint_l2"]["teachers"] = ["digits_resnet"]
    config["students"]["kd"] |= {"level": "L2", "targets": ["mnist5k"]}


def wrong_argument(config: Config) -> None:
    config["models"]["byobnet"]["kwargs"] = {"depth": 3}


def no_export(config: Config) -> None:
    config["models"]["folded"] = {"architecture": "levit_128s", "input_size": [224, 224]}
    config["students"]["mlfd_l1"]["model"] = "folded"


def wrong_size(config: Config) -> None:
    config["models"]["byobnet"] = {"architecture": "test_vit", "input_size": [40, 40]}


def too_few_images(config: Config) -> None:
    config["datasets"]["mnist5k"]["split"] = {"train": 5001}


IMPOSSIBLE: list[tuple[Callable[[Config], None], str]] = [
    (
        level_that_is_not_there,
        r"joint_teachers\.joint_l2\.level: models\.byobnet: level L2: the last map of timm's CrossVit",
    ),
    (level_of_the_student, r"joint_teachers\.joint_l2\.level: models\.flat: level L2: the last map of timm's CrossVit"),
    (level_of_single_dataset_distillation, r"students\.kd\.level: models\.byobnet: level L2: the last map"),
    (wrong_argument, r"^models\.byobnet\.kwargs: timm cannot build test_byobnet with \{'depth': 3\}"),
    (no_export, r"^models\.folded: levit_128s has no single linear classifier, cannot be exported"),
    (wrong_size, r"^models\.byobnet: test_vit: level L1: fails on an image of 40 x 40 pixels: Input height"),
    (too_few_images, r"^datasets\.mnist5k: split\.train: 5001 asks for 5001 samples"),
]


@pytest.mark.parametrize(("change", "message"), IMPOSSIBLE, ids=lambda value: getattr(value, "__name__", ""))
def test_forecast__refuses_what_cannot_be_made(
    results: Path, tiny: Config, change: Callable[[Config], None], message: str
) -> None:
    change(tiny)
    with pytest.raises(UserError, match=message):
        expect(planned(tiny, results))


@pytest.mark.parametrize(("resource", "message"), [("bytes", "lacks .* of space"), ("inodes", r"lacks \d+ inodes")])
def test_check_fit__refuses_what_does_not_fit(
    results: Path, tiny: Config, monkeypatch: pytest.MonkeyPatch, resource: str, message: str
) -> None:
    plan = planned(tiny, results)
    directories = [job.directory for job in plan.stage("train_teacher")]
    assert "still to be made: 2 of 2" in next(check_fit(plan, directories))
    free = free_space(results)
    little = Free(**(vars(free) | {resource: 10}))
    monkeypatch.setattr(forecast, "free_space", lambda _: little)
    with pytest.raises(UserError, match=f"results: .*{message}.*nothing was started"):
        list(check_fit(plan, directories))
    assert list(check_fit(plan, []))  # nothing to be made always fits


def test_check_fit__warns_of_more_memory_than_there_is(results: Path, tiny: Config) -> None:
    tiny["memory"] = {"ram_gib": 10**6}
    lines = list(check_fit(planned(tiny, results), []))
    assert "warning: memory.ram_gib: 1e+06 for each job, but this machine has" in lines[-1]


def test_size__on_disk_is_in_whole_blocks() -> None:
    assert Size(bytes=10, files=2).on_disk(4096) == 10 + 2 * 4096


def test_measuring__falls_back_to_the_cpu(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some architectures look at values while they are built."""
    model = load_config(tiny).models["resnet"]
    half = (0.5,) * 3
    dataset = DatasetInfo("digits", ("0", "1"), Samples(image_size=(32, 32)), half, half, {})

    def measured() -> sizes.Measured:
        return sizes.measured("models.resnet", lambda: sizes.measure_network(model, [dataset]))

    found = measured()
    build = sizes.build
    devices = []

    def looking(*arguments: Any) -> Any:
        devices.append(torch.zeros(1).device.type)
        torch.zeros(1).item()
        return build(*arguments)

    monkeypatch.setattr(sizes, "build", looking)
    assert measured() == found
    assert devices == ["meta", "cpu"]
