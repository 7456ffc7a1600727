"""MLFD: multi-level feature distillation, of maps and logits of a joint teacher.

Iordache, Alexe, Ionescu, "Multi-level feature distillation of joint teachers trained on distinct image datasets", WACV
2025.

    L = a T^2 CE(softmax(z_T / T), log_softmax(z_S / T)) + b mean_levels MSE(map_S, map_T) + c CE(z_S, y)

with a, b, c = 0.6, 0.2, 0.2 and T = 2 in the authors' runs. MSE is the plain element mean. Where no maps are compared
(level L1, or b = 0) the label term has weight 1 - a. With `feature_on_vector` the vectors are compared too, as one more
level, which is what the paper's figure draws.

Where a map of the student differs from the teacher's in channels, a trainable 1x1 conv follows it; where it differs
in size, it is resampled. A vector of another width gets a trainable linear layer.

Differences from the authors' code: maps of several levels and the vectors are compared in the paper's figure, but their
released code compares the last map alone; it has no projectors, since its joint teachers have the shapes of the
student's maps; and its last version leaves the labels the weight c where no maps are compared, an earlier one 1 - a, as
here. Their targets are made from images without augmentation, whatever the student sees (`views: none` does that); here
a target belongs to the view that the student sees. Where options match, value and gradient were found equal to theirs.

    distiller: {name: mlfd, soft_weight: 0.6, feature_weight: 0.2, label_weight: 0.2, temperature: 2}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

from kd.common.errors import UserError
from kd.distillers.base import Batch, Distiller, Required, Shapes
from kd.models.spec import MAP_LEVELS, Level, map_levels

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(Distiller):
    """Weights of the three terms and the temperature."""

    name: Literal["mlfd"] = "mlfd"
    soft_weight: Annotated[float, Ge(0), Le(1)] = 0.6
    """a: weight of the cross-entropy with the teacher's softened classes."""
    feature_weight: Annotated[float, Ge(0)] = 0.2
    """b: weight of the mean squared error between maps."""
    label_weight: Annotated[float, Ge(0)] = 0.2
    """c: weight of the cross-entropy with the labels, where maps are compared; else that is 1 - a."""
    temperature: Annotated[float, Gt(0)] = 2.0
    """T: softens both teacher and student."""
    feature_on_vector: bool = False
    """Whether the vectors before the classifiers are compared, too."""

    TASKS = ("single_label",)
    NEEDS_LEVEL = True

    def required(self, level: Level | None = None) -> Required:
        """Logits; maps and vectors if they have a weight."""
        if level is None:
            raise UserError("method mlfd: say at which level, L1, L2, L3 or L4, it compares student and teacher")
        maps = map_levels(level) if self.feature_weight > 0 else ()
        vector: tuple[Level, ...] = ("L1",) if self.feature_on_vector and self.feature_weight > 0 else ()
        return Required((*vector, *maps), logits=True)

    def auxiliary(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module:
        """Projectors from the student's widths to the teacher's."""
        from torch import nn

        def projector(level: str) -> nn.Module:
            student_channels, teacher_channels = student[level][0], teacher[level][0]
            if student_channels == teacher_channels:
                return nn.Identity()
            if level == "L1":
                return nn.Linear(student_channels, teacher_channels)
            return nn.Conv2d(student_channels, teacher_channels, kernel_size=1)

        return nn.ModuleDict({level: projector(level) for level in teacher if level != "logits"})

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from torch import nn
        from torch.nn import functional

        from kd.distillers.losses import at, label_loss, widened
        from kd.models.network import resample

        assert isinstance(auxiliary, nn.ModuleDict)
        soft_targets = (at(teacher, "logits") / self.temperature).softmax(dim=1)
        soft = functional.cross_entropy(at(student, "logits") / self.temperature, soft_targets) * self.temperature**2
        hard = label_loss(student, batch.labels)
        features = []
        for level in (name for name in teacher if name != "logits"):
            student_features, teacher_features = widened(auxiliary[level](at(student, level))), at(teacher, level)
            if level != "L1":
                student_features = resample(student_features, teacher_features.shape[2:])
            features.append(functional.mse_loss(student_features, teacher_features))
        feature = sum(features, hard.new_zeros(())) / max(1, len(features))
        label_weight = self.label_weight if any(name in MAP_LEVELS for name in teacher) else 1 - self.soft_weight
        return self.soft_weight * soft + self.feature_weight * feature + label_weight * hard
