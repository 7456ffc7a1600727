"""KD: the classes that the teacher sees, softened.

Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", NIPS deep learning workshop 2014.

    L = a T^2 KL(softmax(z_T / T) || softmax(z_S / T)) + w CE(z_S, y)

KL is a mean over the batch. Defaults are those of CRD's comparisons (ICLR 2020): T = 4, a = 0.9, w = 0.1.

Differences from the authors' code: none known. The authors published none; value and gradient were found equal to those
of the code of CRD's comparisons.

    distiller: {name: kd, temperature: 4, soft_weight: 0.9, label_weight: 0.1}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from kd.distillers.base import Batch, Distiller, Required

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(Distiller):
    """Temperature and weights of the two terms."""

    name: Literal["kd"] = "kd"
    temperature: Annotated[float, Gt(0)] = 4.0
    """T: softens both teacher and student."""
    soft_weight: Annotated[float, Ge(0)] = 0.9
    """a: weight of the divergence from the teacher's softened classes."""
    label_weight: Annotated[float, Ge(0)] = 0.1
    """w: weight of the cross-entropy with the labels."""

    TASKS = ("single_label",)
    REQUIRED = Required(logits=True)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from torch.nn import functional

        from kd.distillers.losses import at, label_loss

        student_log_probabilities, teacher_log_probabilities = (
            (at(each, "logits") / self.temperature).log_softmax(dim=1) for each in (student, teacher)
        )
        divergence = functional.kl_div(
            student_log_probabilities, teacher_log_probabilities, reduction="batchmean", log_target=True
        )
        soft = divergence * self.temperature**2
        return self.label_weight * label_loss(student, batch.labels) + self.soft_weight * soft
