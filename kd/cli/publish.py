"""The tables and figures of a run under plain names, in its folder; and what lies beside them.

`results/experiments/EXPERIMENT/tables` and `figures` are what people read; what made each of their files lies in the
results folder as any other artefact. The workflow runs this at its end, for tables and for figures.
"""

from __future__ import annotations

import argparse
import csv
import html
import io
import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from kd.artefacts.code import code_digests
from kd.artefacts.files import replacing, write_text
from kd.artefacts.job import Job, artefact_key
from kd.artefacts.lock import writing
from kd.artefacts.manifest import git_commit, library_versions, load_manifest, read_manifest
from kd.artefacts.reading import read_json
from kd.cli.records import sign
from kd.common.errors import UserError, shown
from kd.config.load import load_config
from kd.jobs.handover import handed_over
from kd.jobs.run import user_errors
from kd.planning.plan import Plan
from kd.reporting.registry import load_report

log = logging.getLogger("kd")

KINDS = {"tables": ("table",), "figures": ("figure", "analysis")}
"""Stages by the folder that their files are laid into."""
PUBLISHED = ".published.json"


def reports_of(plan: Plan, what: str) -> list[Job]:
    """All tables, or all figures, of a plan."""
    return [job for job in plan.jobs.values() if job.stage in KINDS[what]]


def shown_file(plan: Plan, job: Job) -> Path:
    """The file of a table or figure that the report shows, under its plain name."""
    ending = "html" if job.stage == "table" else job.spec["format"]
    folder = next(folder for folder, kinds in KINDS.items() if job.stage in kinds)
    return plan.folder / folder / f"{job.spec['report']}.{ending}"


def caption_file(plan: Plan, job: Job) -> Path:
    """The file with the text that the report shows below it."""
    return plan.folder / "captions" / f"{job.stage}-{job.spec['report']}.rst"


def key_file(plan: Plan, what: str) -> Path:
    """Says by its name what the plainly named files of a folder were made by.

    For tables that is the whole config and all artefacts, since the index and the config lie beside them.
    """
    jobs = reports_of(plan, what) if what == "figures" else plan.jobs.values()
    made_from = [config_json(plan) if what == "tables" else "", [job.key for job in jobs]]
    return plan.folder / what / f"{artefact_key('publish', made_from, {}, code_digests('kd.cli.publish:publish'))}.key"


def config_json(plan: Plan) -> str:
    """The whole config, in its own order: where nobody names a teacher, it is the first one of the dataset."""
    return json.dumps(plan.config.model_dump(mode="json"))


def publish(plan: Plan, what: str, configfile: str = "") -> None:
    """Copy the files of all `tables`, or of all `figures`, of a run of which all is finished.

    With tables, write index, config, provenance and whose they are: by `configfile`, that the run was started with.

    Raises:
        UserError: a table or figure is not there, or damaged.
    """
    folder, key = plan.folder / what, key_file(plan, what)
    with writing(folder):  # other controllers on the same results folder wait
        for path in folder.glob("*.key"):
            if path.name != key.name:
                path.unlink()
        before, now = set(_published(folder)), []
        for job in reports_of(plan, what):
            for record in read_manifest(job)["files"]:
                now.append(record["path"])
                with replacing(folder / record["path"]) as partial:
                    shutil.copyfile(job.directory / record["path"], partial)
            caption = load_report(job.stage, job.spec["report"]).CAPTION
            caption_file(plan, job).parent.mkdir(parents=True, exist_ok=True)
            write_text(caption_file(plan, job), caption)
        if what == "tables":
            now.append("run.html")
            write_text(folder / "run.html", _run_page(plan))
            write_text(plan.folder / "index.csv", _index(plan))
            write_text(plan.folder / "config.yaml", _config_text(plan))
            sign(plan.folder, plan.config.experiment, configfile)
        for name in before.difference(now):  # of a run that had other tables or figures
            (folder / name).unlink(missing_ok=True)
        write_text(folder / PUBLISHED, json.dumps(now))
        key.touch()  # at last: it says which run the files are of


def notes_of(jobs: Iterable[Job]) -> Iterator[tuple[str, str, int]]:
    """What stages left out or changed of what they were given: the name in config or index, what, and how often."""
    for job in jobs:
        try:
            manifest = load_manifest(job.directory) or {}
        except UserError:  # it is told by whoever reads the artefact
            continue
        name = f"datasets.{job.name}" if job.stage == "prepare_dataset" else f"{job.stage}/{job.name}"
        for what, count in manifest.get("result", {}).get("notes", {}).items():
            yield name, shown(what), count


def _published(folder: Path) -> Iterator[str]:
    """Names of files that an earlier run laid into a folder."""
    try:
        names = read_json(folder / PUBLISHED)
    except FileNotFoundError:
        return
    yield from (name for name in names if isinstance(name, str) and Path(name).name == name)


def _index(plan: Plan) -> str:
    """The index as CSV: which directory holds which artefact."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["stage", "name", "directory"])
    writer.writerows([job.stage, job.name, str(job.directory)] for job in plan.jobs.values())
    return text.getvalue()


def _config_text(plan: Plan) -> str:
    """The whole config, with defaults filled in."""
    text: str = yaml.safe_dump(plan.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def _run_page(plan: Plan) -> str:
    """For the report: versions, what stages left out or changed, and the config."""
    from kd.reporting.layout import STYLE  # with pandas, which the Snakefile does without

    modules = {module for job in plan.jobs.values() for module in job.code}
    versions = {"git commit": git_commit() or "not a git checkout"} | library_versions(modules)
    notes = list(notes_of(plan.jobs.values()))
    page = f"{STYLE}<h3>Versions</h3>{_html_table(versions.items())}"
    if notes:
        page += f"<h3>Notes: what was left out or changed, and how often</h3>{_html_table(notes)}"
    return f"{page}<h3>Config</h3><pre>{html.escape(_config_text(plan))}</pre>"


def _html_table(rows: Iterable[Iterable[object]]) -> str:
    lines = ("".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=KINDS)
    parser.add_argument("--config", required=True, type=Path, help="the config, as JSON in a file")
    parser.add_argument("--configfile", default="", help="that the run was started with")
    options = parser.parse_args()
    with user_errors():
        config = load_config(json.loads(handed_over("--config", options.config)))
        publish(Plan(config), options.what, options.configfile)
        log.info("%s written", options.what)
