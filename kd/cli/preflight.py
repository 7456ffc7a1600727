"""Run by the Snakefile before it starts any job: does what is to be made fit, and can it be made?

A process of its own, since it may have to build networks, and the workflow's own process never loads torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kd.cli.forecast import check_fit
from kd.config.load import load_config
from kd.jobs.run import user_errors
from kd.planning.plan import Plan

if __name__ == "__main__":
    with user_errors():
        request = json.load(sys.stdin)
        plan = Plan(load_config(request["config"]))
        directories = {Path(each) for each in request["directories"]}
        wanted = [job.spec["architecture"] for job in plan.stage("fetch_weights") if job.directory in directories]
        if wanted:  # first, since it takes no time: where there is no network, nobody waits for torch to hear of it
            from kd.models.hub import check_network

            check_network(wanted)
        for line in check_fit(plan, directories):
            sys.stdout.write(f"{line}\n")
