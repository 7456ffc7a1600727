"""ID: instance-aware distillation of label embeddings, the third term of L2D alone.

Yang, Xie, Zong, Feng, Niu, Sugiyama, Huang, "Multi-label knowledge distillation", ICCV 2023.

    L = BCE(z_S, y) + a sum_samples (1 / n) sum_ij h(D_S / m_S - D_T / m_T)

For each sample: D is the n x n matrix of Euclidean distances between the embeddings of its n > 1 positive labels, m
the mean of its entries above 0, h smooth-L1 (beta 1). Two labels add 0. Embeddings of labels that a sample does
not have are not read. a = 1000 is its weight in L2D; `reduction` is as in `l2d`.

Differences from the authors' code: as those of `cd`. Value and gradient are the same otherwise, without a loop over
samples.

    distiller: {name: id, weight: 1000}
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

    name: Literal["id"] = "id"
    weight: Annotated[float, Gt(0)] = 1000.0
    """a: weight of the differences of distances between labels."""

    REQUIRED = Required(label_embeddings=True)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from kd.distillers.losses import of_positives, structural_distance

        student_embeddings, teacher_embeddings, instances, _ = of_positives(student, teacher, batch.labels)
        distance = self.weight * structural_distance(student_embeddings, teacher_embeddings, instances)
        return self.combined(student, batch, sums=distance)
