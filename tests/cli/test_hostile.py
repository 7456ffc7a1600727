"""Whatever somebody puts into a shared results folder: one clear error or work to do, and no harm outside of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import kd.planning.plan
from kd.artefacts.code import code_digests
from kd.artefacts.files import remove
from kd.artefacts.job import JOB, MANIFEST, Job
from kd.artefacts.lock import LOCK, WRITER
from kd.artefacts.manifest import KEPT, load_manifest, read_manifest
from kd.cli.adopt import adopt
from kd.cli.gc import collect
from kd.cli.invalidate import invalidate
from kd.cli.records import planned_run
from kd.cli.status import status
from kd.cli.verify import verify
from kd.cli.why import why
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.jobs.run import JOB_LOG
from kd.planning.plan import Plan
from tests.cli.conftest import build
from tests.conftest import ROOT

LONG = "x" * 1_000_000
DEEP = "[" * 100_000


class Folder:
    """A results folder with a dataset and a teacher, and beside it files of somebody's that are none of its business.

    Attributes:
        job: the finished teacher, which is attacked.
        newer: the same teacher, wanted by code that was edited since.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        raw = yaml.safe_load((ROOT / "tests/tiny.yaml").read_text())
        raw |= {"joint_teachers": {}, "students": {}, "baselines": {}, "results": str(root / "results")}
        raw["datasets"] = {"digits": raw["datasets"]["digits"]}
        raw["teachers"] = {"digits_resnet": raw["teachers"]["digits_resnet"]}
        self.root, self.results = root, root / "results"
        self.precious, self.kept = root / "precious", root / "kept"
        self.plan = Plan(load_config(raw))
        monkeypatch.setattr(
            kd.planning.plan, "code_digests", lambda *names: code_digests(*names) | {"kd.training.supervised": "edited"}
        )
        self.newer_plan = Plan(load_config(raw))
        (self.job,), (self.newer,) = (plan.stage("train_teacher") for plan in (self.plan, self.newer_plan))
        build(*self.plan.jobs.values())
        self.results.rename(self.kept)

    def lay(self) -> None:
        """Everything as it was."""
        for path in (self.results, self.precious):
            remove(path)
        shutil.copytree(self.kept, self.results)
        self.precious.mkdir()
        (self.precious / "thesis.txt").write_text("years of work\n")
        (self.precious / "content.txt").write_text("made\n")

    def outside(self) -> dict[str, tuple[Any, ...]]:
        """All that lies outside of the results folder."""
        found = sorted(path for path in self.root.rglob("*") if not path.is_relative_to(self.results))
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_nlink, path.lstat().st_size) for path in found}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    with pytest.MonkeyPatch.context() as patch:
        yield Folder(tmp_path_factory.mktemp("hostile"), patch)


def collect_others(folder: Folder) -> Iterator[str]:
    """Only the dataset is wanted, so the teacher goes."""
    run = planned_run(folder.plan, "my.yaml")
    titles = [title for title in run.artefacts if title.startswith("prepare_dataset/")]
    path = folder.results / "experiments/tiny/runs/ann.json"
    path.parent.mkdir(parents=True)
    path.write_text(run.model_copy(update={"artefacts": titles}).model_dump_json())
    return collect(folder.results, yes=True)


USES: dict[str, Callable[[Folder], Any]] = {
    "read": lambda folder: read_manifest(folder.job),
    "run": lambda folder: build(folder.job),
    "adopt": lambda folder: adopt(folder.newer_plan, [folder.newer], yes=True),
    "invalidate": lambda folder: invalidate(folder.plan, folder.job, only=False, yes=True),
    "gc": collect_others,
    "verify": lambda folder: verify(folder.plan, [], rows=1),
    "verify a directory": lambda folder: verify(folder.plan, [str(folder.job.directory)], rows=1),
    "status": lambda folder: status(folder.plan, everything=True),
    "why": lambda folder: why(folder.plan, folder.job),
    "why not": lambda folder: why(folder.newer_plan, folder.newer),
}


CHANGING = ("run", "adopt", "invalidate", "gc")


def attacked(folder: Folder, attack: Callable[[Folder], object]) -> dict[str, str]:
    """What each use says after an attack: never anything but a `UserError`, and nothing outside is changed."""
    said = {}
    folder.lay()
    attack(folder)
    for name in sorted(USES, key=lambda name: name in CHANGING):
        if name in CHANGING[1:]:
            folder.lay()
            attack(folder)
        before, lines = folder.outside(), []
        try:
            for line in USES[name](folder) or ():
                lines.append(line)  # noqa: PERF402 - those before an error count, too
        except UserError as error:
            lines.append(f"error: {error}")
        said[name] = "\n".join(map(str, lines))
        assert folder.outside() == before, name
        assert len(said[name]) < 5000, name
        assert said[name].replace("\n", "").isprintable(), name
    return said


def change(folder: Folder, edit: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads(folder.job.manifest.read_text())
    edit(manifest)
    write(folder, json.dumps(manifest))


def write(folder: Folder, text: str) -> None:
    for name in (MANIFEST, KEPT):
        (folder.job.directory / name).write_text(text)


def append(folder: Folder, path: Any) -> None:
    record = {"path": path, "bytes": 14, "sha256": "0" * 64}
    change(folder, lambda manifest: manifest["files"].append(record))


@pytest.mark.parametrize(
    "path",
    [
        "../../../../precious/thesis.txt",
        "folder/../../../../../precious/thesis.txt",
        "{precious}/thesis.txt",
        LOCK,
        LONG,
    ],
    ids=lambda path: path[:20],
)
def test_hostile__a_path_of_the_manifest_stays_in_its_directory(folder: Folder, path: str) -> None:
    said = attacked(folder, lambda _: append(folder, path.replace("{precious}", str(folder.precious))))
    assert "files.2.path: " in said["read"]
    assert "files.2.path: " in said["verify"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/",
        "folder//more.txt",
        "folder/.",
        "a\0b",
        "a\nb",
        "folder/.hidden",
        MANIFEST,
        "x" * 300,
        5,
        None,
    ],
)
def test_load_manifest__only_paths_of_files_below(folder: Folder, path: Any) -> None:
    folder.lay()
    append(folder, path)
    with pytest.raises(UserError, match=r"manifest\.json: files\.2\.path: "):
        load_manifest(folder.job.directory)


FIELDS: list[dict[str, Any]] = [
    {"files": 5},
    {"files": [5]},
    {"files": [{}]},
    {"files": [{"path": "content.txt", "bytes": -1, "sha256": "0" * 64}]},
    {"files": [{"path": "content.txt", "bytes": 10**30, "sha256": "0" * 64}]},
    {"files": [{"path": "content.txt", "bytes": 5.0, "sha256": "0" * 64}]},
    {"files": [{"path": "content.txt", "bytes": 5}]},
    {"files": [{"path": "content.txt", "bytes": 5, "sha256": 7}]},
    {"spec": None},
    {"spec": {"lr": float("nan")}},
    {"spec": [1]},
    {"upstream": []},
    {"upstream": {"dataset": 5}},
    {"upstream": {LONG: {}}},
    {"code": {"../x": "1"}},
    {"code": "x"},
    {"versions": 5},
    {"adopted": 5},
    {"adopted": {"from": "../x", "when": "", "by": "", "code": [], "before": None}},
    {"adopted": {"from": "0" * 16, "when": "", "by": "", "code": [], "before": {}}},
    {"host": LONG},
    {"seconds": "long"},
    {"name": "../../precious"},
    {"name": LONG},
    {"key": "x"},
    {"stage": None},
    {"format": True},
    {"format": "2"},
    {"format": 10**400},
]


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: str(fields)[:30])
def test_load_manifest__a_field_of_another_type(folder: Folder, fields: dict[str, Any]) -> None:
    folder.lay()
    change(folder, lambda manifest: manifest.update(fields))
    with pytest.raises(UserError) as caught:
        load_manifest(folder.job.directory)
    assert str(caught.value).startswith(f"{folder.job.manifest}: {next(iter(fields))}")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("fields", [{"files": 5}, {"spec": None}, {"upstream": []}, {"name": LONG}])
def test_hostile__a_field_of_the_manifest_of_another_type(folder: Folder, fields: dict[str, Any]) -> None:
    said = attacked(folder, lambda _: change(folder, lambda manifest: manifest.update(fields)))
    assert said["read"].startswith(f"error: {folder.job.manifest}: {next(iter(fields))}")


def test_hostile__an_upstream_elsewhere(folder: Folder) -> None:
    up = {"stage": "prepare_dataset", "name": "../../precious", "key": "0" * 16}
    said = attacked(folder, lambda _: change(folder, lambda manifest: manifest["upstream"]["dataset"].update(up)))
    assert "upstream.dataset.name: " in said["read"]


@pytest.mark.parametrize("text", [DEEP, "[]", "\0", "9" * 5000, "NaN"], ids=lambda text: text[:9])
def test_hostile__a_manifest_that_is_none(folder: Folder, text: str) -> None:
    said = attacked(folder, lambda _: write(folder, text))
    assert said["read"].startswith(f"error: {folder.job.manifest}: ")
    said = attacked(folder, lambda _: (folder.job.directory / JOB).write_text(text))
    assert "error" not in said["run"]


def test_hostile__a_chain_of_adoptions_without_end(folder: Folder) -> None:
    adopted: dict[str, Any] | None = None
    for _ in range(400):
        adopted = {"from": "0" * 16, "when": "", "by": "", "code": [], "before": adopted}
    said = attacked(folder, lambda _: change(folder, lambda manifest: manifest.update(adopted=adopted)))
    assert "adopted" in said["read"]


def pipe(path: Path) -> None:
    os.mkfifo(path)


PUT: dict[str, Callable[[Path, Folder], object]] = {
    "link": lambda path, folder: path.symlink_to(folder.precious / "content.txt"),
    "link to a folder": lambda path, folder: path.symlink_to(folder.precious),
    "dangling link": lambda path, folder: path.symlink_to(folder.precious / "new.txt"),
    "pipe": lambda path, _: pipe(path),
}
PLACES = [
    ("content.txt", "link"),
    ("folder", "link to a folder"),
    ("folder/more.txt", "pipe"),
    ("unlisted", "link to a folder"),
    (MANIFEST, "link"),
    (KEPT, "pipe"),
    (JOB, "link"),
    (JOB, "pipe"),
    (JOB_LOG, "link"),
    (JOB_LOG, "dangling link"),
    (JOB_LOG, "pipe"),
    (LOCK, "link"),
    (LOCK, "dangling link"),
    (LOCK, "pipe"),
    (WRITER, "link"),
    (WRITER, "dangling link"),
    (WRITER, "pipe"),
    (".old.partial", "link to a folder"),
]


@pytest.mark.parametrize(("place", "put"), PLACES)
def test_hostile__links_and_pipes_are_not_followed(folder: Folder, place: str, put: str) -> None:
    def attack(folder: Folder) -> None:
        path = folder.job.directory / place
        remove(path)
        PUT[put](path, folder)

    said = attacked(folder, attack)
    for use in ("read", "run", "verify a directory"):
        assert f"{folder.job.directory / place}: is " in said[use]


@pytest.mark.parametrize("place", ["", "content.txt", MANIFEST, JOB_LOG, WRITER, ".a.partial"])
def test_hostile__a_folder_in_the_place_of_a_file(folder: Folder, place: str) -> None:
    """And a file in the place of the folder."""

    def attack(folder: Folder) -> None:
        path = folder.job.directory / place
        if not place:
            shutil.rmtree(path)
            path.write_text("x")
            return
        path.unlink(missing_ok=True)
        path.mkdir()
        (path / "full").write_text("x")

    attacked(folder, attack)


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_hostile__the_directory_or_one_above_it_is_a_link(folder: Folder, levels: int) -> None:
    def attack(folder: Folder) -> None:
        path = [folder.job.directory, *folder.job.directory.parents][levels]
        path.rename(folder.precious / "moved")
        path.symlink_to(folder.precious / "moved")

    said = attacked(folder, attack)
    linked = [folder.job.directory, *folder.job.directory.parents][levels]
    for use in ("read", "run", "verify a directory"):
        assert str(linked) in said[use]
    assert f"{linked}: kept, is a link" in said["gc"]


def test_results__may_be_a_link_themselves(folder: Folder) -> None:
    """They are where their owner put them."""
    folder.lay()
    shutil.rmtree(folder.precious)
    folder.results.rename(folder.precious)
    folder.results.symlink_to(folder.precious)
    build(folder.job)
    assert list(status(folder.plan))[-1] == f"{len(folder.plan.jobs)} finished"
    assert list(adopt(folder.newer_plan, [folder.newer], yes=True))[-1] == "1 adopted"
    assert list(verify(folder.plan, [str(folder.job.directory)], rows=1))[-1] == "1 verified"
    list(invalidate(folder.plan, folder.job, only=False, yes=True))
    assert not folder.job.directory.exists()


@pytest.mark.parametrize(
    "text", [DEEP, "5", "{}", '{"host": 5}', '{"host": "\x1b[2J", "pid": "1"}', LONG, '{"pid": 1e400}']
)
def test_hostile__a_writer_that_is_none(folder: Folder, text: str) -> None:
    """It counts as one that cannot be read: alive as long as its heart beats, and not for ever."""

    def attack(age: float) -> Callable[[Folder], None]:
        def lay(folder: Folder) -> None:
            path = folder.job.directory / WRITER
            path.write_text(text)
            now = path.stat().st_mtime
            os.utime(path, (now - age, now - age))

        return lay

    folder.lay()
    attack(0)(folder)
    assert "kept, is being written by another process" in "\n".join(collect_others(folder))
    for age in (500, -100_000):
        attack(age)(folder)
        build(folder.job)


def test_hostile__what_a_log_says_cannot_write_on_the_terminal(folder: Folder) -> None:
    def attack(folder: Folder) -> None:
        for name in (MANIFEST, KEPT):
            (folder.job.directory / name).unlink()
        (folder.job.directory / JOB_LOG).write_text("1 2 3 4 \x1b[2J\x07 failed: " + LONG)

    attacked(folder, attack)


def test_logs__that_have_another_name_elsewhere_keep_what_they_have_there(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a copy by hard links."""
    caplog.set_level("INFO", "kd")
    folder.lay()
    copy = folder.precious / "log"
    os.link(folder.job.directory / JOB_LOG, copy)
    before = copy.read_text()
    job: Job = folder.job
    build(job)
    assert copy.read_text() == before
    assert (job.directory / JOB_LOG).read_text().startswith(before)
    assert "already built" in (job.directory / JOB_LOG).read_text()
