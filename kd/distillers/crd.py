"""CRD: contrast of each sample with many others.

Tian, Krishnan, Isola, "Contrastive representation distillation", ICLR 2020.

    L = a mean_i (C(s_i, M_T) + C(t_i, M_S)) + w CE(z_S, y)
    C(u_i, M) = -ln P(u_i, M_i) - sum_k ln(1 - P(u_i, M_k)),   P(u, v) = h / (h + K),   h = exp(u.v / tau) / Z

s and t are the vectors of student and teacher after a trained linear layer each, at unit length. The memories M_S and
M_T hold such vectors of all training samples, as moving averages: M <- m M + (1 - m) u, at unit length. Z is the mean
of exp(u.v / tau) over the first batch, a constant for each side. Defaults a = 0.8, K = 16384, tau = 0.07, m = 0.5 and
128 dimensions are those of the authors' code.

Samples k are of another class than i. One draw of K samples serves the whole batch; those of the class of i are left
out for i, and K in P is what remains. Classes become known as samples are seen: those not yet seen in this training
count as of another class.

Memories and classes are in the state of `auxiliary`, and change in training mode only. Mixed images have no place
there.

Differences from the authors' code: they draw K samples of other classes for each sample anew, which takes B K vectors
instead of K; and they know all classes from the beginning.

    distiller: {name: crd, weight: 0.8, negatives: 16384, temperature: 0.07, momentum: 0.5}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Lt

from kd.distillers.base import Batch, Distiller, Required, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays

UNSEEN = -1  # in the place of a class


class Method(Distiller):
    """Weights of the two terms, and how samples are contrasted."""

    name: Literal["crd"] = "crd"
    weight: Annotated[float, Gt(0)] = 0.8
    """a: weight of the contrastive loss, of both sides together."""
    dimensions: Annotated[int, Gt(0)] = 128
    """Dimensions of the space in which student and teacher are compared."""
    negatives: Annotated[int, Gt(0)] = 16384
    """K: samples drawn for each batch; no more than there are."""
    temperature: Annotated[float, Gt(0)] = 0.07
    """tau: temperature of the similarities."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.5
    """m: the part of its old vector that a sample keeps in memory."""

    TASKS = ("single_label",)
    NEEDS_GLOBAL_BATCH = True
    REMEMBERS_SAMPLES = True
    REQUIRED = Required(("L1",))

    def auxiliary(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module:
        """A linear layer for each side, and what is remembered of all samples.

        Buffers: `memory` (2, samples, dimensions), of student and teacher, random at first; `classes` (samples,)
        int64; `log_z` (2,), of student and teacher; `started` (), bool: whether `log_z` is set.
        """
        import torch
        from torch import nn

        from kd.distillers.losses import directions

        widths = {"student": student["L1"][0], "teacher": teacher["L1"][0]}
        auxiliary = nn.ModuleDict({side: nn.Linear(width, self.dimensions) for side, width in widths.items()})
        auxiliary.register_buffer("memory", directions(torch.randn(2, samples, self.dimensions)))
        auxiliary.register_buffer("classes", torch.full((samples,), UNSEEN))
        auxiliary.register_buffer("log_z", torch.zeros(2))
        auxiliary.register_buffer("started", torch.zeros((), dtype=torch.bool))
        return auxiliary

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        import torch
        from torch.nn import functional

        from kd.common.errors import UserError
        from kd.distillers.losses import at, directions, label_loss, products, widened

        assert isinstance(auxiliary, torch.nn.ModuleDict)
        rows = batch.rows
        if rows is None:
            raise UserError("method crd: needs the rows of the samples of a batch, since it remembers each sample")
        ours, theirs = auxiliary["student"](at(student, "L1")), auxiliary["teacher"](at(teacher, "L1"))
        vectors = directions(widened(torch.stack([ours, theirs])))
        memory, classes = auxiliary.get_buffer("memory"), auxiliary.get_buffer("classes")

        stream = torch.Generator(classes.device).manual_seed(batch.seed)
        drawn = torch.randperm(len(classes), device=classes.device, generator=stream)[: self.negatives]
        others = (classes[drawn] != batch.labels.unsqueeze(1)) & (drawn != rows.unsqueeze(1))  # (B, K)
        positives = (vectors * memory[:, rows].flip(0)).sum(dim=2, keepdim=True)
        scores = torch.cat([positives, products(vectors, memory[:, drawn].flip(0))], dim=2) / self.temperature
        log_z = _log_z(auxiliary, scores.detach(), others)
        odds = scores - log_z.view(2, 1, 1) - others.sum(dim=1).clamp_min(1).log().unsqueeze(1)
        contrast = functional.logsigmoid(odds[..., 0]) + (functional.logsigmoid(-odds[..., 1:]) * others).sum(dim=2)
        if auxiliary.training:
            kept = self.momentum * memory[:, rows] + (1 - self.momentum) * vectors.detach()
            memory[:, rows] = directions(kept)
            classes[rows] = batch.labels
        return self.label_weight * label_loss(student, batch.labels) - self.weight * contrast.sum(dim=0).mean()


def _log_z(auxiliary: nn.ModuleDict, scores: Tensor, others: Tensor) -> Tensor:
    """Logarithm of Z (2,): that of the first batch in training."""
    import torch

    positive = torch.ones_like(others[:, :1])
    counted = torch.cat([positive, others], dim=1)
    present = scores.masked_fill(~counted, -torch.inf).logsumexp(dim=(1, 2)) - counted.sum().log()
    log_z, started = auxiliary.get_buffer("log_z"), auxiliary.get_buffer("started")
    current = torch.where(started, log_z, present)
    if auxiliary.training:
        log_z.copy_(current)
        started.fill_(True)  # noqa: FBT003
    return current
