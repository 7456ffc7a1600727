"""What several methods are made of. Imports torch, so methods import it late; it is no method itself."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from kd.models.outputs import Arrays

PAIRS_AT_ONCE = 4096
LEAST_LENGTH = 1e-6  # what is divided by a length is divided by this at least: else gradients grow as maps die


def at(arrays: Arrays, name: str) -> Tensor:
    """The array of this name of `Required.names`: (B, ...), at least float32."""
    return widened(arrays[name])


def of_positives(student: Arrays, teacher: Arrays, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Label embeddings of all M positive labels of a batch.

    Args:
        student: label embeddings (B, classes, d).
        teacher: as `student`; d may differ.
        labels: (B, classes) of 0 and 1.

    Returns:
        Embeddings of the student (M, d) and of the teacher; instances and classes that they belong to, (M,) int64.
    """
    instances, classes = labels.nonzero(as_tuple=True)
    both = (each["label_embeddings"] for each in (student, teacher))
    student_embeddings, teacher_embeddings = (widened(each[instances, classes]) for each in both)
    return student_embeddings, teacher_embeddings, instances, classes


def widened(values: Tensor) -> Tensor:
    """Half precision to float32; other types stay."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def label_loss(student: Arrays, labels: Tensor) -> Tensor:
    """Loss of the labels, a mean over the batch.

    Args:
        student: logits (B, classes).
        labels: (B,) class ids: cross-entropy; (B, classes) of 0 and 1: binary cross-entropy, summed over labels.
    """
    logits = at(student, "logits")
    if labels.ndim == 1:
        return functional.cross_entropy(logits, labels)
    total = functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum")
    return total / len(labels)


def warm_up(epoch: int, epochs: int) -> float:
    """Weight of a term that grows linearly over the first `epochs` epochs; `epoch` counts from 0."""
    return min((epoch + 1) / epochs, 1.0)


def directions(vectors: Tensor) -> Tensor:
    """(..., d) at unit length; vectors that are shorter than `LEAST_LENGTH` are divided by that."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths.clamp_min(LEAST_LENGTH)


def products(left: Tensor, right: Tensor) -> Tensor:
    """Scalar products of (..., N, d) with (..., K, d): (..., N, K); not in half precision where autocast is on."""
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.mT


def bernoulli_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(p_T || p_S) of each logit, p = sigmoid(logit); same shape. The gradient is p_S - p_T."""
    present, absent = functional.logsigmoid(teacher), functional.logsigmoid(-teacher)
    student_present, student_absent = functional.logsigmoid(student), functional.logsigmoid(-student)
    return present.exp() * (present - student_present) + absent.exp() * (absent - student_absent)


def logits_divergence(student: Arrays, teacher: Arrays, temperature: float) -> Tensor:
    """MLD: `bernoulli_divergence` of (B, classes) logits / T, summed over labels, mean over the batch, times T^2."""
    student_logits, teacher_logits = at(student, "logits") / temperature, at(teacher, "logits") / temperature
    return bernoulli_divergence(student_logits, teacher_logits).sum(dim=1).mean() * temperature**2


def against_negatives(student: Tensor, teacher: Tensor, positives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """KL(T || S) of softmaxes over one positive label and all negatives of its sample, in two parts.

    The probability of the positive is sigmoid(margin); the rest falls to the negatives in the shares that a softmax
    over them alone gives. So KL(T || S) is the Bernoulli one of the margins, plus the rest times that of the shares.
    A sample without negatives has margins so large that the probability is 1, and a divergence of shares of 0.

    Args:
        student: logits (B, classes).
        teacher: as `student`.
        positives: (B, classes) bool.

    Returns:
        Divergence of the margins (B, classes), of use where `positives` is true, and of the shares (B,); the rest
        (B, classes), by the teacher.
    """

    def margins_and_shares(logits: Tensor) -> tuple[Tensor, Tensor]:
        """Margins, and logarithms of shares, 0 where `positives` is true."""
        # The lowest number, not minus infinity: without negatives that would give NaN.
        negatives = logits.masked_fill(positives, torch.finfo(logits.dtype).min)
        margins = logits - negatives.logsumexp(dim=1, keepdim=True)
        return margins, negatives.log_softmax(dim=1).masked_fill(positives, 0)

    student_margins, student_shares = margins_and_shares(student)
    teacher_margins, teacher_shares = margins_and_shares(teacher)
    of_shares = (teacher_shares.exp() * (teacher_shares - student_shares)).sum(dim=1)
    return bernoulli_divergence(student_margins, teacher_margins), of_shares, (-teacher_margins).sigmoid()


def structural_distance(student: Tensor, teacher: Tensor, sets: Tensor) -> Tensor:
    """How much the relative distances within sets of embeddings differ, summed over sets (L2D's CD and ID).

    Of a set of n > 1: its n x n Euclidean distances are divided by the mean of those above 0, once of the student and
    once of the teacher; smooth-L1 (beta 1) between the two, summed over all entries, divided by n. Of sets of two that
    is 0, so they are left out; also where their points coincide in one of the networks, which would give 1/2.

    Args:
        student: (M, d) embeddings of all sets, one after another in any order.
        teacher: as `student`; d may differ.
        sets: (M,) int64: which set each is in.

    Returns:
        Scalar.
    """
    sizes = torch.bincount(sets)
    together = (sets.unsqueeze(1) == sets) & (sizes > 2)[sets]
    first, second = together.triu(1).nonzero(as_tuple=True)  # each pair stands for two entries of the matrix
    of_pair = sets[first]
    student_distances, teacher_distances = (
        relative_distances(points, first, second, of_pair, len(sizes)) for points in (student, teacher)
    )
    return (
        2 * functional.smooth_l1_loss(student_distances, teacher_distances, reduction="none") / sizes[of_pair]
    ).sum()


def relative_distances(points: Tensor, first: Tensor, second: Tensor, sets: Tensor, count: int) -> Tensor:
    """Euclidean distances of pairs of points, divided by the mean of those above 0 in the same set.

    Where all points of a set are the same, 0; where that mean is below `LEAST_LENGTH`, they are divided by that.

    Args:
        points: (M, d).
        first: (P,) int64: one point of each pair.
        second: (P,) int64: the other.
        sets: (P,) int64: which set the pair is in.
        count: of sets.

    Returns:
        (P,). Points that are the same get no gradient from their distance.
    """
    distances = cast("Tensor", _Distances.apply(points, first, second))
    zeros = distances.new_zeros(count)
    counts = zeros.index_add(0, sets, (distances > 0).to(distances.dtype))
    means = zeros.index_add(0, sets, distances) / counts.clamp_min(1)
    return distances / means.clamp_min(LEAST_LENGTH)[sets]


class _Distances(torch.autograd.Function):
    """Euclidean distances of pairs of points, of which no more than PAIRS_AT_ONCE are in memory as vectors.

    Differences are exact for points that are close, other than distances from scalar products.
    """

    @staticmethod
    def forward(ctx: Any, points: Tensor, first: Tensor, second: Tensor) -> Tensor:
        chunks = zip(torch.split(first, PAIRS_AT_ONCE), torch.split(second, PAIRS_AT_ONCE), strict=True)
        distances = torch.cat([torch.linalg.vector_norm(points[left] - points[right], dim=1) for left, right in chunks])
        ctx.save_for_backward(points, first, second, distances)
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        points, *pairs = ctx.saved_tensors
        total = torch.zeros_like(points)
        chunks = zip(*(torch.split(each, PAIRS_AT_ONCE) for each in (*pairs, gradient)), strict=True)
        for left, right, distances, weights in chunks:
            towards = (points[left] - points[right]) / distances.masked_fill(distances == 0, torch.inf).unsqueeze(1)
            towards *= weights.unsqueeze(1)
            total.index_add_(0, left, towards).index_add_(0, right, towards, alpha=-1)
        return total, None, None
