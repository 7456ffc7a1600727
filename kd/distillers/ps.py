"""PS: partial softmax, one positive label against all negatives.

Song et al., "Handling difficult labels for multi-label image classification via uncertainty distillation", ACM
Multimedia 2021; as the code of L2D (ICCV 2023) has it for its baseline.

    L = BCE(z_S, y) + a (1 / N) sum_i sum_p KL(t_T || t_S)

For each positive label p of a sample, t is the softmax over p and all negative labels. Samples without positives add
nothing. Weights for it were not published: a = 10, that of MLD in L2D, is ours. `reduction` is as in `l2d`.

    distiller: {name: ps, weight: 10}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from kd.data.options import Task
from kd.distillers.base import Batch, Distiller, Reduction, Required

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(Distiller):
    """Weights of the two terms, and how they are summed."""

    name: Literal["ps"] = "ps"
    weight: Annotated[float, Gt(0)] = 10.0
    """a: of the divergences."""
    label_weight: Annotated[float, Ge(0)] = 1.0
    """Of the binary cross-entropy with the labels."""
    reduction: Reduction = "paper"
    """paper: label loss as a sum over the batch; batch_mean: all as means, see `l2d`."""

    TASKS: ClassVar[tuple[Task, ...]] = ("multi_label",)
    REQUIRED: ClassVar[Required] = Required(logits=True)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from kd.distillers.losses import (
            against_negatives,
            at,
            bernoulli_divergence,
            combined,
            label_loss,
            shares_divergence,
        )

        positives = batch.labels > 0
        student_odds, student_shares = against_negatives(at(student, "logits"), positives)
        teacher_odds, teacher_shares = against_negatives(at(teacher, "logits"), positives)
        among_negatives = shares_divergence(student_shares, teacher_shares).unsqueeze(1)
        each = bernoulli_divergence(student_odds, teacher_odds) + (-teacher_odds).sigmoid() * among_negatives
        divergence = self.weight * each[positives].sum() / len(positives)
        label = self.label_weight * label_loss(student, batch.labels)
        return combined(label, batch, self.reduction, means=divergence)
