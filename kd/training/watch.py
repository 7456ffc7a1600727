"""Training that has diverged ends at once, in all processes, with one message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from timm.utils import ModelEmaV3
from torch import Tensor, nn, optim

from kd.models.finite import first_not_finite, peaks


@dataclass(frozen=True, order=True)
class Problem:
    """A value that is no longer finite, and since which step of the epoch; of several the earliest is the cause."""

    step: int
    order: int
    text: str


class Watch:
    """Notes losses and gradients of each step on the device, and looks at them when asked.

    Args:
        fabric: of the training.
        module: that is trained.
        optimizer: of its parameters.
        ema: the moving average of its weights, if there is one.
        scaled: whether gradients may overflow, since their scaler then leaves out the step (16-mixed).
    """

    def __init__(
        self, fabric: Fabric, module: nn.Module, optimizer: optim.Optimizer, ema: ModelEmaV3 | None, *, scaled: bool
    ) -> None:
        self.fabric, self.module, self.optimizer, self.ema, self.scaled = fabric, module, optimizer, ema, scaled
        self._losses: list[Tensor] = []
        self._gradients: list[Tensor] = []
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}

    def note(self, loss: Tensor) -> None:
        """Keep what tells whether a step is sound; between its backward pass and what changes gradients or weights.

        Args:
            loss: (), of the step: its sum over the processes is the loss of the whole batch.
        """
        self._losses.append(loss)
        if not self.scaled:
            none = torch.zeros((), device=loss.device)
            gradients = (each.grad for each in self._names)
            found = [none if each is None or not each.numel() else each for each in gradients]
            self._gradients.append(torch.stack(peaks(found)))

    def agree(self, first: int, *flags: bool) -> tuple[list[float], list[bool]]:
        """Share what was noted with the other processes; all of them call this at the same steps.

        Args:
            first: number of the first noted step in its epoch.
            flags: anything.

        Returns:
            The loss of each noted step, and whether any process raised each of the flags.

        Raises:
            DivergedError: in all processes, if something is not finite in any.
        """
        noted = len(self._losses)
        problem = self._bad_gradient(first) or self._bad_state(first + noted - 1)
        raised = torch.tensor([problem is not None, *flags], dtype=torch.float32, device=self.fabric.device)
        mine = torch.cat([torch.stack(self._losses).float(), raised]) if self._losses else raised
        total: Any = self.fabric.all_reduce(mine, reduce_op="sum")
        shared: list[float] = total.tolist()
        losses, (bad, *others) = shared[:noted], shared[noted:]
        at = next((step for step, loss in enumerate(losses, first) if not abs(loss) < torch.inf), None)
        if at is not None:
            loss = Problem(at, 0, f"loss is {losses[at - first]}")
            problem = loss if problem is None else min(loss, problem)
        if at is not None or bad:
            ranks = range(self.fabric.world_size)
            raise DivergedError(min(filter(None, (self.fabric.broadcast(problem, src=rank) for rank in ranks))))
        self._losses, self._gradients = [], []
        return losses, [each > 0 for each in others]

    def _bad_gradient(self, first: int) -> Problem | None:
        if not self._gradients:
            return None
        bad = (~torch.stack(self._gradients).isfinite()).nonzero()
        if not len(bad):
            return None
        step, place = (int(each) for each in bad[0])
        return Problem(first + step, 1, f"gradient of {list(self._names.values())[place]} is not finite")

    def _bad_state(self, step: int) -> Problem | None:
        for order, (what, tensors) in enumerate(self._state(), 2):
            name = first_not_finite(tensors)
            if name is not None:
                return Problem(step, order, f"{what} {name} is not finite")
        return None

    def _state(self) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """All tensors that results or checkpoints store."""
        yield "weight", self.module.state_dict()
        if self.ema is not None:
            yield "moving average (recipe ema) of weight", self.ema.module.state_dict()
        states = {
            f"{self._names[parameter]} ({kind})": value
            for parameter, kinds in self.optimizer.state.items()
            for kind, value in kinds.items()
            if isinstance(value, Tensor)
        }
        yield "state of the optimizer for weight", states


class DivergedError(Exception):
    """Training must not go on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem
