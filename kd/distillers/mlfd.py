"""MLFD: multi-level feature distillation of joint teachers trained on distinct image datasets.

    L = a T^2 CE(softmax(z_T / T), log_softmax(z_S / T)) + b mean_levels MSE(map_S, map_T) + c CE(z_S, y)

with a, b, c = 0.6, 0.2, 0.2 and T = 2 in the authors' runs. MSE is the plain element mean. Where the teacher
has no maps (level L1) they drop out and the label term has weight 1 - a. With `feature_on_vector`
the vectors are compared too, as one more level, which is what the paper's figure draws.

    distiller: {name: mlfd, soft_weight: 0.6, feature_weight: 0.2, label_weight: 0.2, temperature: 2}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

from kd.distillers.base import DistillerOptions

if TYPE_CHECKING:
    from torch import Tensor

    from kd.distillers.base import StudentOutputs
    from kd.models.targets import Targets


class Options(DistillerOptions):
    """Weights of the three terms and the temperature."""

    name: Literal["mlfd"] = "mlfd"
    soft_weight: Annotated[float, Ge(0), Le(1)] = 0.6
    """a: of the cross-entropy with the teacher's softened classes."""
    feature_weight: Annotated[float, Ge(0)] = 0.2
    """b: of the mean squared error between maps."""
    label_weight: Annotated[float, Ge(0)] = 0.2
    """c: of the cross-entropy with the labels, where the teacher has maps; at L1 it is 1 - a."""
    temperature: Annotated[float, Gt(0)] = 2.0
    """T: softens both teacher and student."""
    feature_on_vector: bool = False
    """Compare the vectors before the classifiers, too."""


def uses_maps(options: Options) -> bool:
    """Maps are compared if they have a weight."""
    return options.feature_weight > 0


def uses_vector(options: Options) -> bool:
    """Vectors are compared on request."""
    return options.feature_on_vector and options.feature_weight > 0


def loss(student: StudentOutputs, targets: Targets, labels: Tensor, options: Options) -> Tensor:
    """Scalar loss of a batch; see the formula above."""
    from torch.nn import functional

    soft_targets = (targets.logits / options.temperature).softmax(dim=1)
    soft = functional.cross_entropy(student.logits / options.temperature, soft_targets) * options.temperature**2
    hard = functional.cross_entropy(student.logits, labels)
    pairs = [(value, targets.maps[level]) for level, value in student.maps.items()]
    if student.vector is not None and targets.vector is not None:
        pairs.append((student.vector, targets.vector))
    feature = sum((functional.mse_loss(own, wanted) for own, wanted in pairs), hard.new_zeros(())) / max(1, len(pairs))
    label_weight = options.label_weight if targets.maps else 1 - options.soft_weight
    return options.soft_weight * soft + options.feature_weight * feature + label_weight * hard
