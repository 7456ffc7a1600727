"""Commands for people: `python -m kd <command> --help`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kd.jobs.run import user_errors


def predict(options: argparse.Namespace) -> None:
    """Print the most probable classes of each picture."""
    from kd.evaluation.prediction import predict_images

    for path, classes in predict_images(options.student, options.pictures, options.top):
        print(path, *(f"{name} {100 * probability:.1f}%" for name, probability in classes), sep="\t")


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
    options = parser.parse_args()
    with user_errors():
        options.run(options)


if __name__ == "__main__":
    main()
