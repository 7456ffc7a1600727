"""Two processes that compute together, forked from this one: to start Python and import torch twice takes long."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kd.jobs.environment import give_devices


def in_two_processes(directory: Path, work: Callable[[], Any], seconds: float = 300) -> list[Any]:
    """What `work` returns in each of them, as JSON can hold it.

    Args:
        directory: for the results.
        work: what each does; `make_fabric` makes them one group.
        seconds: that it may take.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(rank: int) -> None:
        os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        give_devices(2, 1)
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore", "torch.distributed.nn.functional", FutureWarning)  # Fabric calls it
        (directory / f"{rank}.json").write_text(json.dumps(work()))
        os._exit(0)  # without what pytest would do at the end

    processes = [multiprocessing.get_context("fork").Process(target=run, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=seconds)
        process.kill()
    return [json.loads((directory / f"{rank}.json").read_text()) for rank in range(2)]
