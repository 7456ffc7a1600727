"""DKD: KD in two parts, the true class against the others and the others among themselves.

Zhao, Cui, Song, Qiu, Liang, "Decoupled knowledge distillation", CVPR 2022.

    L = u(epoch) T^2 (alpha KL(b_T || b_S) + beta KL(r_T || r_S)) + w CE(z_S, y)

With p = softmax(z / T): b is (p_y, 1 - p_y), r the shares of the other classes, p_k / (1 - p_y); KL is a mean over
the batch. u grows linearly to 1 over the first `warmup` epochs. Defaults are those of the paper on CIFAR-100.

Differences from the authors' code: none known; value and gradient were found equal to theirs.

    distiller: {name: dkd, alpha: 1, beta: 8, temperature: 4, warmup: 20}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from kd.distillers.base import Batch, Distiller, Required

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(Distiller):
    """Temperature, weights and warm-up."""

    name: Literal["dkd"] = "dkd"
    alpha: Annotated[float, Ge(0)] = 1.0
    """Weight of the divergence of the true class against all others."""
    beta: Annotated[float, Ge(0)] = 8.0
    """Weight of the divergence of the other classes among themselves."""
    temperature: Annotated[float, Gt(0)] = 4.0
    """T: softens both teacher and student."""
    warmup: Annotated[int, Ge(1)] = 20
    """Epochs over which both divergences gain their weights linearly; 1: they have them at once."""

    TASKS = ("single_label",)
    REQUIRED = Required(logits=True)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from torch.nn import functional

        from kd.distillers.losses import against_negatives, at, label_loss, warm_up

        student_logits, teacher_logits = (at(each, "logits") / self.temperature for each in (student, teacher))
        target = functional.one_hot(batch.labels, student_logits.shape[1]).bool()
        target_class, others, _ = against_negatives(student_logits, teacher_logits, target)
        soft = (self.alpha * target_class[target].mean() + self.beta * others.mean()) * self.temperature**2
        return self.label_weight * label_loss(student, batch.labels) + warm_up(batch.epoch, self.warmup) * soft
