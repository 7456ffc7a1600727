"""Commands for people: `python -m kd <command> --help`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kd.jobs.run import user_errors

CONFIG = Path("config/config.yaml")


def predict(options: argparse.Namespace) -> None:
    """Print the most probable classes of each picture."""
    from kd.evaluation.prediction import predict_images

    for path, classes in predict_images(options.student, options.pictures, options.top):
        print(path, *(f"{name} {100 * probability:.1f}%" for name, probability in classes), sep="\t")


def forecast(options: argparse.Namespace) -> None:
    """Say what every artefact of a config will weigh, what is there, and what is free."""
    from kd.commands.forecast import forecast_json, forecast_table
    from kd.commands.planned import plan_of

    plan = plan_of(options.configfile)
    for line in forecast_json(plan) if options.json else forecast_table(plan):
        print(line)


def verify(options: argparse.Namespace) -> None:
    """Read finished artefacts whole, and compute a sample of what is stored in caches again."""
    from kd.commands.planned import plan_of
    from kd.commands.verify import verify

    for line in verify(plan_of(options.configfile), options.names, options.rows):
        print(line, flush=True)


def schema(options: argparse.Namespace) -> None:  # noqa: ARG001
    """Print the JSON schema of the config."""
    from kd.config import Config

    print(json.dumps(Config.model_json_schema(), indent=1))


def main() -> None:
    """Parse the command line and run a command."""
    parser = argparse.ArgumentParser(prog="python -m kd", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("predict", help="classify pictures with a student", description=predict.__doc__)
    command.add_argument("student", type=Path, help="directory of a student (results/index.csv lists them)")
    command.add_argument("pictures", type=Path, help="an image, or a folder of images")
    command.add_argument("--top", type=int, default=5, choices=range(1, 101), metavar="K", help="(default: 5)")
    command.set_defaults(run=predict)
    command = commands.add_parser("schema", help="print the JSON schema of the config", description=schema.__doc__)
    command.set_defaults(run=schema)
    command = commands.add_parser(
        "forecast", help="bytes and files, before anything is made", description=forecast.__doc__
    )
    command.add_argument("--configfile", type=Path, default=CONFIG, help="(default: %(default)s)")
    command.add_argument("--json", action="store_true", help="for machines, in bytes")
    command.set_defaults(run=forecast)
    command = commands.add_parser("verify", help="is what is there undamaged and right", description=verify.__doc__)
    command.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help="NAME or STAGE/NAME as in results/index.csv, or a directory (default: all)",
    )
    command.add_argument("--configfile", type=Path, default=CONFIG, help="(default: %(default)s)")
    command.add_argument(
        "--rows",
        type=int,
        default=32,
        choices=range(1, 10**6),
        metavar="N",
        help="of each split and view, computed again (default: 32)",
    )
    command.set_defaults(run=verify)
    options = parser.parse_args()
    with user_errors():
        options.run(options)


if __name__ == "__main__":
    main()
