"""Where networks compute: one device or several, of one process or of several, by Lightning Fabric."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn import functional

from kd.common.errors import UserError
from kd.jobs.environment import device_count, is_follower, node_count, started_by_srun
from kd.jobs.lease import lease

# The first process alone measures val and writes, however long that takes; a process that dies ends the others anyway.
LONGEST_WAIT = timedelta(days=7)

log = logging.getLogger("kd")


def make_fabric(precision: str, *, training: bool = False) -> Fabric:
    """The devices of this job: one, or for a training as many as it was given, with a process each.

    Args:
        precision: of the recipe; "32" for whatever is not trained.
        training: may use several devices, and on GPUs TF32 where float32 is asked for.

    Raises:
        UserError: the device cannot compute in this precision.
    """
    if not is_follower():  # these inherit it
        lease(device_count())
    nodes = node_count() if training else 1
    devices = max(1, device_count()) if training else 1
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = (  # type: ignore[attr-defined]
            "tf32" if training else "ieee"
        )
    fabric = Fabric(
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        strategy=DDPStrategy(timeout=LONGEST_WAIT) if devices * nodes > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]
        # Named, since Fabric would take one process of a Slurm job for one of several.
        plugins=SLURMEnvironment() if started_by_srun() else LightningEnvironment(),
    )
    _check_precision(fabric, precision)
    fabric.launch()
    log.info("running on %s, with %d threads for what the CPU does", fabric.device, torch.get_num_threads())
    return fabric


def one_device(device: str, precision: str = "32") -> Fabric:
    """One device of a program that is not a job of the workflow; how GPUs compute in float32 is as the program set it.

    Args:
        device: auto, cpu, cuda, or one such as cuda:1.
        precision: as of `make_fabric`.

    Raises:
        UserError: there is no such device, or it cannot compute in this precision.
    """
    accelerator, _, number = device.partition(":")
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=[int(number)] if number else 1,
            precision=precision,  # type: ignore[arg-type]
            plugins=LightningEnvironment(),
        )
        fabric.launch()
    except Exception as error:  # of whatever accelerator
        raise UserError(
            f"device: {device!r} is not there ({error}); expected auto, cpu, cuda or one such as cuda:1"
        ) from error
    _check_precision(fabric, precision)
    return fabric


def _check_precision(fabric: Fabric, precision: str) -> None:
    if fabric.device.type == "cpu" and precision == "16-mixed":
        raise UserError("recipe precision: 16-mixed needs a GPU, and there is none; take 32 or bf16-mixed")


def send(fabric: Fabric, tensor: Tensor) -> Tensor:
    """A tensor on the device; to a GPU from pinned memory, so that the copy runs beside what is computed there."""
    pinned = fabric.device.type == "cuda" and tensor.device.type == "cpu"
    sent: Tensor = fabric.to_device(tensor.pin_memory() if pinned else tensor)
    return sent


def gathering(fabric: Fabric, rows: int) -> Callable[[Tensor], Tensor]:
    """A function from (rows, ...) of this process to the rows of all processes, in their order.

    Each process has `rows` of its own number. Gradients flow back to where the rows come from.
    """
    counts = [int(count) for count in fabric.all_gather(torch.tensor(rows, device=fabric.device))]
    longest = max(counts)

    def gather(values: Tensor) -> Tensor:
        padded = functional.pad(values, (0, 0) * (values.ndim - 1) + (0, longest - rows))
        gathered = fabric.all_gather(padded, sync_grads=padded.requires_grad)
        return torch.cat([each[:count] for each, count in zip(gathered, counts, strict=True)])

    return gather


def share_statistics(module: nn.Module, fabric: Fabric) -> nn.Module:
    """Let batch norm see the whole batch, also the parts of other processes; torch has that for GPUs only."""
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        converted: nn.Module = convert_sync_batchnorm(module)
        return converted
    return module
