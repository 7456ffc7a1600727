"""Run by the workflow at the end: lay the tables, or the figures, of a run under plain names into its folder."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from kd.cli.published import KINDS, publish
from kd.config.load import load_config
from kd.jobs.handover import handed_over
from kd.jobs.run import user_errors
from kd.planning.plan import Plan

log = logging.getLogger("kd")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=KINDS)
    parser.add_argument("--config", required=True, type=Path, help="the config, as JSON in a file")
    parser.add_argument("--configfile", default="", help="that the run was started with")
    options = parser.parse_args()
    with user_errors():
        plan = Plan(load_config(json.loads(handed_over("--config", options.config))))
        publish(plan, options.what, options.configfile)
        log.info("%s written", options.what)


if __name__ == "__main__":
    main()
