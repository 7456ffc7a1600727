"""`invalidate` and `gc`: what goes, what stays, and that nothing goes without --yes or while it is written."""

from __future__ import annotations

import copy
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from kd.__main__ import main
from kd.artefacts.lock import BeingWrittenError, current_writer, writing
from kd.cli.gc import collect
from kd.cli.invalidate import invalidate
from kd.cli.records import record_run, recorded_runs
from kd.common.errors import UserError
from kd.planning.plan import Plan, find_job
from tests.cli.conftest import Edit, built, planned

Tiny = dict[str, Any]


def there(*plans: Plan) -> set[str]:
    jobs = [job for plan in plans for job in plan.jobs.values() if job.manifest.is_file()]
    return {f"{job.stage}/{job.name}" for job in jobs}


def invalidated(plan: Plan, name: str, *, only: bool = False, yes: bool = True) -> list[str]:
    return list(invalidate(plan, find_job(plan, name), only=only, yes=yes))


def collected(*plans: Plan, yes: bool = True, results: str = "", forget: tuple[str, ...] = ()) -> list[str]:
    folder = Path(results) if results else plans[0].config.results
    return list(collect(folder, [(plan, Path("my.yaml")) for plan in plans], forget=forget, yes=yes))


def test_invalidate__drops_all_that_was_made_from_it(config: Tiny) -> None:
    plan = built(config)
    before = there(plan)
    lines = invalidated(plan, "mnist5k", yes=False)
    assert there(plan) == before
    assert "would be removed; add --yes to do it" in "\n".join(lines)
    lines = invalidated(plan, "mnist5k")
    assert there(plan) == {
        "prepare_dataset/digits",
        "train_teacher/digits_resnet-seed0",
        "cache_embeddings/digits_resnet-on-digits-seed0",
        "distill_student/kd-for-digits-seed0",
    }
    assert "  distill_student/mlfd_l1-for-digits-seed0" in lines
    assert not list(Path(config["results"]).rglob("*.partial"))
    assert not (Path(config["results"]) / "prepare_dataset/mnist5k").exists()


def test_invalidate__also_what_other_configs_made_from_it(config: Tiny) -> None:
    built(config)
    config["recipes"]["student"] = config["recipes"]["network"] | {"lr": 0.01}
    config["students"]["kd"]["recipe"] = "student"
    other = built(config)
    config["students"]["kd"]["recipe"] = "fusion"
    lines = invalidated(planned(config), "digits_resnet-on-digits-seed0")
    assert sum("distill_student/kd-for-digits-seed0" in line for line in lines) == 2
    assert not find_job(other, "kd-for-digits-seed0").directory.exists()


def test_invalidate__only_the_one(config: Tiny) -> None:
    plan = built(config)
    before = there(plan)
    invalidated(plan, "mnist5k", only=True)
    assert before - there(plan) == {"prepare_dataset/mnist5k"}


def test_invalidate__takes_along_the_store_that_another_grew_from(config: Tiny) -> None:
    """Else the chunks that were not trusted would come back from there."""
    small = built(config)
    for joint in config["joint_teachers"].values():
        joint["views"] = 3
    config["students"]["kd"]["views"] = 3
    grown = built(config)
    name = "digits_resnet-on-mnist5k-seed0"
    before, after = (next(job for job in plan.jobs.values() if job.name == name) for plan in (small, grown))
    assert before.key != after.key
    list(invalidate(grown, after, only=True, yes=True))
    assert not before.directory.exists()
    assert not after.directory.exists()


def test_invalidate__refuses_what_is_not_there_or_being_written(config: Tiny) -> None:
    plan = planned(config)
    with pytest.raises(UserError, match="prepare_dataset/digits: nothing to invalidate"):
        invalidated(plan, "digits")
    built(config)
    before = there(plan)
    with writing(find_job(plan, "joint_l2-seed0").directory), pytest.raises(BeingWrittenError, match="joint_l2"):
        invalidated(plan, "digits")
    assert there(plan) == before


def test_gc__keeps_what_any_config_needs(config: Tiny) -> None:
    first = built(config)
    config["recipes"]["network"]["lr"] = 0.5
    second = built(config)
    results = Path(config["results"])
    assert collected(first, second)[-1] == "0 B freed"
    old = {job.directory for job in first.jobs.values()} - {job.directory for job in second.jobs.values()}
    lines = collected(second, yes=False)
    assert {line.split(":")[0] for line in lines[1:-1]} == {str(directory) for directory in old}
    assert all(directory.is_dir() for directory in old)
    collected(second, yes=True)
    assert not any(directory.exists() for directory in old)
    assert len(there(second)) == len(second.jobs)
    assert not list(results.rglob("*.partial"))


def test_gc__keeps_what_needed_artefacts_were_made_from(config: Tiny) -> None:
    """A student stays valid when its store is enlarged, so the smaller store still is its origin."""
    first = built(config)
    config["joint_teachers"]["joint_l3"] = {"level": "L3", "views": 2, "width": 8, "recipe": "fusion"}
    second = built(config)
    name = "digits_resnet-on-digits-seed0"
    assert find_job(first, name).directory != find_job(second, name).directory
    *freed, _ = collected(second, yes=True)
    assert all("kept for" in line or re.search("/(table|figure)/", line) for line in freed)
    assert find_job(first, name).manifest.is_file()


def test_gc__leaves_alone_what_is_being_written(config: Tiny) -> None:
    first = built(config)
    config["students"] = {}
    second = built(config)
    student = find_job(first, "kd-for-digits-seed0")
    with writing(student.directory):
        lines = collected(second, yes=True)
        assert student.manifest.is_file()
    assert any(f"{student.directory}: kept, is being written by" in line for line in lines)
    assert not find_job(first, "mlfd_l1-for-digits-seed0").directory.exists()


def test_gc__unfinished_leftovers_and_orphaned_logs(config: Tiny) -> None:
    plan = built(config)
    results = Path(config["results"])
    job = find_job(plan, "kd-for-digits-seed0")
    half = results / "train_teacher/other-seed0/0123456789abcdef"
    half.mkdir(parents=True)
    (half / ".checkpoint").write_text("x" * 2000)
    logs = results / "logs/train_teacher"
    logs.mkdir(parents=True)
    kept, orphan = logs / f"{job.name}-{job.key}.log", logs / "gone-seed0-0123456789abcdee.log"
    kept = results / "logs/distill_student" / kept.name
    kept.parent.mkdir()
    partial, fresh = job.directory / ".model.safetensors.partial", job.directory / "chunk.abc.partial"
    for path in (kept, orphan, partial, fresh):
        path.write_text("x")
    os.utime(partial, (0, 0))
    text = "\n".join(collected(plan, yes=False))
    assert f"{half}: 2.0 kB, unfinished" in text
    assert half.exists()
    collected(plan, yes=True)
    assert not any(path.exists() for path in (half, orphan, partial))
    assert kept.exists()
    assert fresh.exists()  # may be somebody's who is just writing


def test_gc__an_adopted_artefact_needs_its_source_no_more(config: Tiny, edit: Edit) -> None:
    from kd.cli.adopt import adopt

    built(config)
    edit("kd.data.views")
    plan = planned(config)
    list(adopt(plan, list(plan.jobs.values()), yes=True))
    collected(plan, yes=True)
    assert len(there(plan)) == len(plan.jobs)
    assert len(list(Path(config["results"]).glob("train_teacher/digits_resnet-seed0/*"))) == 1


@pytest.fixture
def small(config: Tiny) -> Tiny:
    """Two datasets and their teachers: enough for who keeps what."""
    return config | {"joint_teachers": {}, "students": {}, "baselines": {}}


def as_user(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("kd.cli.records.user_name", lambda: name)


def other_experiment(config: Tiny, name: str, **network: Any) -> Tiny:
    changed: Tiny = copy.deepcopy(config) | {"experiment": name}
    changed["recipes"]["network"].update(network)
    return changed


def test_gc__without_a_config_keeps_what_any_recorded_run_needs(small: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = built(small), built(other_experiment(small, "theirs", lr=0.5))
    built(other_experiment(small, "nobodys", lr=0.7))
    as_user(monkeypatch, "ann")
    record_run(mine, "mine.yaml")
    as_user(monkeypatch, "../bob b\u00f6b")
    record_run(theirs, "theirs.yaml")
    lines = collected(results=small["results"])
    kept = [line for line in lines if line.startswith("kept for ")]
    assert len(kept) == 2
    assert "kept for theirs of ../bob böb (theirs.yaml, on " in kept[0]
    assert " of ann (mine.yaml, on " in kept[1]
    assert f"{len(mine.jobs)} of {len(mine.jobs)} artefacts are there, " in kept[1]
    assert len(there(mine)) == len(mine.jobs)
    assert len(there(theirs)) == len(theirs.jobs)
    left = list(Path(small["results"]).glob("train_teacher/digits_resnet-seed0/*"))
    assert len(left) == 2
    assert len(list(Path(small["results"]).glob("experiments/theirs/runs/*.json"))) == 1


def test_gc__a_config_takes_the_place_of_the_users_run_of_its_experiment(
    small: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = built(small), built(other_experiment(small, small["experiment"], lr=0.5))
    theirs = built(other_experiment(small, small["experiment"], lr=0.7))
    as_user(monkeypatch, "bob")
    record_run(theirs, "theirs.yaml")
    as_user(monkeypatch, "ann")
    record_run(before, "before.yaml")
    collected(after, yes=False)
    assert len(there(before)) == len(before.jobs)
    collected(after)
    assert not find_job(before, "digits_resnet-seed0").directory.exists()
    for plan in (after, theirs):
        assert len(there(plan)) == len(plan.jobs)
    assert [run.configfile for _, run in recorded_runs(Path(small["results"]))] == ["my.yaml", "theirs.yaml"]


def test_gc__forget_drops_the_runs_of_an_experiment(small: Tiny) -> None:
    plan, other = built(small), built(other_experiment(small, "other", lr=0.5))
    for each in (plan, other):
        record_run(each, "a.yaml")
    with pytest.raises(UserError, match=r"--forget othre: no run of it is recorded in .*; recorded are: .*other"):
        collected(results=small["results"], forget=("othre",))
    assert "would be forgotten" in collected(results=small["results"], forget=("other",), yes=False)[0]
    assert len(there(other)) == len(other.jobs)
    collected(results=small["results"], forget=("other",))
    assert not find_job(other, "digits_resnet-seed0").directory.exists()
    assert len(there(plan)) == len(plan.jobs)


@pytest.mark.parametrize("options", [[], ["--yes"], ["--results", "elsewhere"]])
def test_gc__refuses_to_guess_what_is_needed(
    small: Tiny, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Without a record and a config: not even the demo's config is taken."""
    plan = built(small)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["kd", "gc", *options])
    with pytest.raises(SystemExit):
        main()
    assert "no run is recorded here, so nothing says what is needed" in capsys.readouterr().err
    assert len(there(plan)) == len(plan.jobs)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"experiment": "main"}', '{"artefacts": 5}', "[" * 10_000, '{"artefacts": ["../../x"]}']
)
def test_gc__refuses_a_record_that_cannot_be_read(small: Tiny, content: str) -> None:
    """What it stands for would be removed."""
    plan = built(small)
    record_run(plan, "a.yaml")
    (path, _), *_ = recorded_runs(plan.config.results)
    path.write_text(content)
    with pytest.raises(UserError, match=str(path)):
        collected(plan)
    assert len(there(plan)) == len(plan.jobs)


def test_invalidate__says_whose_runs_want_what_goes_and_wants_a_config(
    small: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    plan = built(small)
    as_user(monkeypatch, "ann")
    record_run(plan, "mine.yaml")
    lines = invalidated(plan, "mnist5k", yes=False)
    assert any(line.startswith("wanted by the run ") and " of ann (mine.yaml" in line for line in lines)
    monkeypatch.setattr("sys.argv", ["kd", "invalidate", "mnist5k", "--yes"])
    with pytest.raises(SystemExit):
        main()
    assert "--yes: say which config the name is of" in capsys.readouterr().err


def test_invalidate__removes_all_or_nothing(small: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where somebody begins to write one of them after the list was made, or one may not be removed."""
    plan = built(small)
    before = there(plan)
    monkeypatch.setattr("kd.cli.invalidate.current_writer", lambda _: None)
    with writing(find_job(plan, "mnist5k").directory), pytest.raises(BeingWrittenError, match="mnist5k"):
        invalidated(plan, "mnist5k")
    assert there(plan) == before
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path == find_job(plan, "mnist5k").directory:
            raise PermissionError(13, "Permission denied", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        invalidated(plan, "mnist5k")
    assert there(plan) == before
    assert not list(plan.config.results.rglob(".writer"))


def test_status__is_in_nobodys_way(small: Tiny) -> None:
    """Asking who writes takes no lock: a removal at the same moment never fails."""
    plan = planned(small)
    directory = find_job(plan, "digits").directory
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            current_writer(directory)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for each in asking:
        each.start()
    try:
        for _ in range(300):
            with writing(directory, wait=False):
                pass
    finally:
        done.set()
        for each in asking:
            each.join()
