"""Which physical GPU a name in CUDA_VISIBLE_DEVICES means. torch is not asked, since importing it takes seconds."""

from __future__ import annotations

import os
import re
import subprocess

from kd.jobs.environment import DRIVER

SMI_SECONDS = 10


def identities(names: list[str]) -> list[str]:
    """For each name (number, UUID, MIG part, or the beginning of one) the full UUID; the name where that is unknown.

    Numbers count the GPUs in the order of the PCI bus, as nvidia-smi does. Unless CUDA_DEVICE_ORDER says so, CUDA puts
    the fastest first: then a number is only known where all GPUs are of one model.
    """
    cards = sorted(each for each in DRIVER.glob("*") if each.is_dir())
    described = [(each / "information").read_text() for each in cards if (each / "information").is_file()]
    uuids = [_field(text, "GPU UUID") for text in described]
    models = {_field(text, "Model") for text in described}
    numbered = len(models) == 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    parts = _mig_parts() if any(name.startswith("MIG-") for name in names) else []
    return [_identity(name, uuids if numbered else [], [*uuids, *parts]) for name in names]


def _identity(name: str, by_number: list[str], known: list[str]) -> str:
    if name.isdecimal():
        return by_number[int(name)] if int(name) < len(by_number) else name
    found = {uuid for uuid in known if uuid.startswith(name)}
    return found.pop() if len(found) == 1 else name


def _field(information: str, name: str) -> str:
    """A line `Name: value` of what the driver says of a GPU."""
    found = re.search(rf"^{name}:\s*(.+?)\s*$", information, re.MULTILINE)
    return found[1] if found else ""


def _mig_parts() -> list[str]:
    """UUIDs of parts of GPUs, which only nvidia-smi lists."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"UUID: (MIG-[^)]+)\)", done.stdout)
