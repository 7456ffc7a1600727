"""CD: class-aware distillation of label embeddings, the second term of L2D alone.

Yang, Xie, Zong, Feng, Niu, Sugiyama, Huang, "Multi-label knowledge distillation", ICCV 2023.

    L = BCE(z_S, y) + a sum_classes (1 / n) sum_ij h(D_S / m_S - D_T / m_T)

For each class: D is the n x n matrix of Euclidean distances between the embeddings that the n > 1 positive samples of
the batch have for this class, m the mean of its entries above 0, h smooth-L1 (beta 1). Two samples add 0.
Embeddings of labels that a sample does not have are not read. a = 100 is its weight in L2D; `reduction` is as in `l2d`.

Differences from the authors' code: theirs takes distances from scalar products, with 1e-12 below the root, and here
they are lengths of differences, which are exact for points that are close; sets of two add 0 here even where their
points coincide in one of the networks; m counts as 1e-6 at least. Value and gradient are the same otherwise, without a
loop over classes.

    distiller: {name: cd, weight: 100}
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

    name: Literal["cd"] = "cd"
    weight: Annotated[float, Gt(0)] = 100.0
    """a: weight of the differences of distances between samples."""

    NEEDS_GLOBAL_BATCH = True
    REQUIRED = Required(label_embeddings=True)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from kd.distillers.losses import of_positives, structural_distance

        student_embeddings, teacher_embeddings, _, classes = of_positives(student, teacher, batch.labels)
        distance = self.weight * structural_distance(student_embeddings, teacher_embeddings, classes)
        return self.combined(student, batch, sums=distance)
