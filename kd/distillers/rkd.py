"""RKD: distances and angles between the samples of a batch.

Park, Kim, Lu, Cho, "Relational knowledge distillation", CVPR 2019.

    L = d mean_ij h(D_S / m_S - D_T / m_T) + a mean_ijk h(cos_S - cos_T) + w label loss

h is smooth-L1 (beta 1). D_ij is the Euclidean distance between vectors of the batch, m the mean of those above 0;
cos_ijk is the cosine of the angle at x_i between x_j and x_k. Means are over all N^2 and all N^3 entries. The defaults
25 and 50 are those of CRD's comparisons (ICLR 2020). Angles take memory for N^2 D + N^3 numbers.

Differences from the authors' code: m and the sides of an angle count as 1e-6 at least, as otherwise gradients would
grow without bound where vectors meet. Their weights are 1 and 2. (L2D's code for this baseline has a sum over pairs,
divided by N, where this has a mean.)

    distiller: {name: rkd, distance_weight: 25, angle_weight: 50}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from kd.distillers.base import Batch, Distiller, Required

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(Distiller):
    """Weights of the three terms; one of weight 0 is not computed."""

    name: Literal["rkd"] = "rkd"
    distance_weight: Annotated[float, Ge(0)] = 25.0
    """d: weight of the distances of pairs."""
    angle_weight: Annotated[float, Ge(0)] = 50.0
    """a: weight of the angles of triples."""

    NEEDS_GLOBAL_BATCH = True
    REQUIRED = Required(("L1",))

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from torch.nn import functional

        from kd.distillers.losses import at, directions, label_loss, products

        def cosines(vectors: Tensor) -> Tensor:
            """(N, D) to (N, N, N): cosine at i between j and k, 0 where j or k is at i."""
            towards = directions(vectors.unsqueeze(0) - vectors.unsqueeze(1))
            return products(towards, towards)

        student_vectors, teacher_vectors = at(student, "L1"), at(teacher, "L1")
        loss = self.label_weight * label_loss(student, batch.labels)
        if self.distance_weight > 0:
            loss = loss + self.distance_weight * _distance_term(student_vectors, teacher_vectors)
        if self.angle_weight > 0:
            angles = functional.smooth_l1_loss(cosines(student_vectors), cosines(teacher_vectors))
            loss = loss + self.angle_weight * angles
        return loss


def _distance_term(student: Tensor, teacher: Tensor) -> Tensor:
    import torch
    from torch.nn import functional

    from kd.distillers.losses import relative_distances

    first, second = torch.triu_indices(len(student), len(student), 1, device=student.device)
    pairs = (first, second, torch.zeros_like(first), 1)
    total = functional.smooth_l1_loss(
        relative_distances(student, *pairs), relative_distances(teacher, *pairs), reduction="sum"
    )
    return 2 * total / len(student) ** 2  # the diagonal is 0
