"""Commands for people: `python -m kd <command> --help`, or `kd <command> --help` where kd is installed."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kd.common.errors import UserError
from kd.jobs.run import user_errors

if TYPE_CHECKING:
    from kd.planning.plan import Plan

CONFIG = Path("config/config.yaml")
RESULTS = Path("results")

Options = argparse.Namespace


def predict(options: Options) -> Iterator[str]:
    """Print the most probable classes of each image, or of each video."""
    from kd.data.sources.files import readable
    from kd.models.prediction import predict_files

    failed = False
    for path, found in predict_files(options.student, options.files, options.top):
        if isinstance(found, UserError):
            print(f"error: {found}", file=sys.stderr)
            failed = True
        else:
            yield "\t".join([readable(path), *(f"{name} {100 * probability:.1f}%" for name, probability in found)])
    if failed:
        raise SystemExit(1)


def schema(options: Options) -> Iterator[str]:  # noqa: ARG001
    """Print the JSON schema of the config."""
    from kd.config.schema import Config

    yield json.dumps(Config.model_json_schema(), indent=1)


def methods(options: Options) -> Iterator[str]:
    """List the distillation methods, those of installed packages too, or print the whole page of one."""
    from kd.cli.methods import describe_method, list_methods

    yield from list_methods() if options.method is None else describe_method(options.method)


def why(options: Options) -> Iterator[str]:
    """Say whether an artefact is there; if not, in what it differs from what is there."""
    from kd.cli.why import why
    from kd.planning.plan import find_job

    plan = _plan(options)
    yield from why(plan, find_job(plan, options.name))


def adopt(options: Options) -> Iterator[str]:
    """Take over finished artefacts that differ from the wanted ones only in the code that made them."""
    from kd.cli.adopt import adopt
    from kd.planning.plan import find_job

    plan = _plan(options)
    named = [find_job(plan, name) for name in options.names]
    jobs = [job for job in plan.jobs.values() if not named or job in named]
    yield from adopt(plan, jobs, yes=options.yes)


def invalidate(options: Options) -> Iterator[str]:
    """Drop an artefact and everything that was made from it."""
    from kd.cli.invalidate import invalidate
    from kd.planning.plan import find_job

    if options.yes and options.configfile is None:
        raise UserError("--yes: say which config the name is of: --configfile FILE")
    plan = _plan(options)
    yield from invalidate(plan, find_job(plan, options.name), only=options.only, yes=options.yes)


def gc(options: Options) -> Iterator[str]:
    """List, and with --yes remove, what no run needs: neither one that was recorded nor one of a given config."""
    from kd.cli.gc import collect
    from kd.planning.plan import plan_of

    plans = [(plan_of(path), path) for path in options.configfile]
    folders = {plan.config.results.resolve(): plan.config.results for plan, _ in plans}
    if options.results is not None:
        folders[options.results.resolve()] = options.results
    if len(folders) > 1:
        raise UserError(f"one results folder at a time, found {', '.join(map(str, folders.values()))}")
    (results,) = folders.values() or [RESULTS]
    yield from collect(results, plans, forget=options.forget, yes=options.yes)


def forecast(options: Options) -> Iterator[str]:
    """Say what every artefact of a config will weigh, what is there, and what is free."""
    from kd.cli.forecast import forecast_json, forecast_table

    plan = _plan(options)
    yield from forecast_json(plan) if options.json else forecast_table(plan)


def status(options: Options) -> Iterator[str]:
    """Say how far a run is: what is finished, running, failed, waiting."""
    from kd.cli.status import status

    yield from status(_plan(options), everything=options.all)


def doctor(options: Options) -> Iterator[str]:
    """Check this machine: versions, GPUs, disk, Slurm, each with what to do."""
    from kd.cli.doctor import doctor

    failed = False
    for finding in doctor(_plan(options)):
        yield f"{finding.state:7}  {finding.text}"
        failed |= finding.state == "error"
    if failed:
        raise SystemExit(1)


def verify(options: Options) -> Iterator[str]:
    """Read finished artefacts whole, and compute a sample of what is stored in caches again."""
    from kd.cli.verify import verify

    yield from verify(_plan(options), options.names, options.rows)


def _plan(options: Options) -> Plan:
    from kd.planning.plan import plan_of

    return plan_of(options.configfile or CONFIG, options.config)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    script = Path(sys.argv[0]).stem == "kd"  # that pip has made
    top = argparse.ArgumentParser(prog="kd" if script else "python -m kd", description=__doc__, allow_abbrev=False)
    commands = top.add_subparsers(required=True, metavar="command")

    def add(run: Callable[[Options], Iterator[str]], help_: str) -> argparse.ArgumentParser:
        command = commands.add_parser(run.__name__, help=help_, description=run.__doc__, allow_abbrev=False)
        command.set_defaults(run=run)
        return command

    command = add(predict, "classify images or videos with a student")
    command.add_argument("student", type=Path, help="directory of a student (index.csv lists them)")
    command.add_argument("files", type=Path, help="an image or video, or a folder of such")
    command.add_argument("--top", type=int, default=5, choices=range(1, 101), metavar="K", help="(default: 5)")
    add(schema, "print the JSON schema of the config")
    command = add(methods, "list the distillation methods")
    command.add_argument("method", nargs="?", metavar="NAME", help="print its page: what it computes, and its options")
    name = "NAME as in results/experiments/*/index.csv, or STAGE/NAME"
    command = add(why, "is it there, and why not")
    command.add_argument("name", help=name)
    _configured(command)
    command = add(adopt, "keep what was made by code that differs harmlessly")
    command.add_argument("names", nargs="*", metavar="name", help=f"{name} (default: all that is missing)")
    _configured(command)
    _changing(command)
    command = add(invalidate, "drop an artefact and what was made from it")
    command.add_argument("name", help=name)
    command.add_argument("--only", action="store_true", help="keep what was made from it")
    _configured(command, f"needed with --yes (default: {CONFIG})")
    _changing(command)
    command = add(gc, "remove what no run needs")
    command.add_argument("--results", type=Path, help=f"folder (default: that of the configs, or {RESULTS})")
    kept = "keep what this config wants, too, instead of what your last run of its experiment wanted; repeatable"
    command.add_argument("--configfile", type=Path, action="append", default=[], help=kept)
    forgotten = "no longer keep what the recorded runs of this experiment want; repeatable"
    command.add_argument("--forget", metavar="EXPERIMENT", action="append", default=[], help=forgotten)
    _changing(command)
    command = add(forecast, "bytes and files, before anything is made")
    command.add_argument("--json", action="store_true", help="for machines, in bytes")
    _configured(command)
    command = add(status, "how far is a run")
    command.add_argument("--all", action="store_true", help="also what is finished")
    _configured(command)
    command = add(doctor, "is this machine fit for it")
    _configured(command)
    command = add(verify, "is what is there undamaged and right")
    command.add_argument(
        "names", nargs="*", metavar="name", help=f"{name}, or a directory (default: all that is there)"
    )
    rows = "of each split and view, computed again (default: %(default)s)"
    command.add_argument("--rows", type=int, default=32, metavar="N", help=rows)
    _configured(command)
    return top


def _configured(command: argparse.ArgumentParser, help_: str = f"(default: {CONFIG})") -> None:
    command.add_argument("--configfile", type=Path, help=help_)
    settings = "set keys of the config, as with snakemake's --config"
    command.add_argument("--config", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help=settings)


def _changing(command: argparse.ArgumentParser) -> None:
    command.add_argument("--yes", action="store_true", help="do it; else only say what would be done")


def main() -> None:
    """Parse the command line and run a command."""
    options = parser().parse_args()
    with user_errors():
        try:
            for line in options.run(options):
                print(line, flush=True)
        except BrokenPipeError:  # whoever reads has enough, as `head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
            raise SystemExit(128 + signal.SIGPIPE) from None


if __name__ == "__main__":
    main()
