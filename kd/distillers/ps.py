"""PS: partial softmax, one positive label against all negatives.

Song et al., "Handling difficult labels for multi-label image classification via uncertainty distillation", ACM
Multimedia 2021; as the code of L2D (ICCV 2023) has it for its baseline.

    L = BCE(z_S, y) + a (1 / N) sum_i sum_p KL(t_T || t_S)

For each positive label p of a sample, t is the softmax over p and all negative labels. Samples without positives add
nothing. `reduction` is as in `l2d`.

Differences from the authors' code: theirs takes the logarithm of a softmax, which is infinite where a student is
confidently wrong; here it is computed from logits, and finite. Weights for it were not published: a = 10, that of MLD
in L2D, is ours.

    distiller: {name: ps, weight: 10}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from kd.distillers.base import Batch, MultiLabelDistiller, Required

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(MultiLabelDistiller):
    """Weights of the two terms, and how they are summed."""

    name: Literal["ps"] = "ps"
    weight: Annotated[float, Gt(0)] = 10.0
    """a: weight of the divergences."""

    REQUIRED = Required(logits=True)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from kd.distillers.losses import against_negatives, at

        positives = batch.labels > 0
        of_positive, of_negatives, rest = against_negatives(at(student, "logits"), at(teacher, "logits"), positives)
        each = of_positive + rest * of_negatives.unsqueeze(1)
        return self.combined(student, batch, means=self.weight * each[positives].sum() / len(positives))
