"""CD: class-aware distillation of label embeddings, the second term of L2D alone.

Yang, Xie, Zong, Feng, Niu, Sugiyama, Huang, "Multi-label knowledge distillation", ICCV 2023.

    L = BCE(z_S, y) + a sum_classes (1 / n) sum_ij h(D_S / m_S - D_T / m_T)

For each class: D is the n x n matrix of Euclidean distances between the embeddings that the n > 1 positive samples of
the batch have for this class, m the mean of its entries above 0, h smooth-L1 (beta 1). Two samples add 0.
Embeddings of labels that a sample does not have are not read. a = 100 is its weight in L2D; `reduction` is as in `l2d`.

    distiller: {name: cd, weight: 100}
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

    name: Literal["cd"] = "cd"
    weight: Annotated[float, Gt(0)] = 100.0
    """a: of the differences of distances between samples."""
    label_weight: Annotated[float, Ge(0)] = 1.0
    """Of the binary cross-entropy with the labels."""
    reduction: Reduction = "paper"
    """paper: both terms as sums over the batch; batch_mean: both divided by its size, see `l2d`."""

    TASKS: ClassVar[tuple[Task, ...]] = ("multi_label",)
    NEEDS_GLOBAL_BATCH: ClassVar[bool] = True
    REQUIRED: ClassVar[Required] = Required(label_embeddings=True)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from kd.distillers.losses import combined, label_loss, of_positives, structural_distance

        student_embeddings, teacher_embeddings, _, classes = of_positives(student, teacher, batch.labels)
        distance = self.weight * structural_distance(student_embeddings, teacher_embeddings, classes)
        label = self.label_weight * label_loss(student, batch.labels)
        return combined(label, batch, self.reduction, sums=distance)
