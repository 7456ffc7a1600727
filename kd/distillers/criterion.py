"""A method at work: its loss, with the modules that train beside the student. It is no method itself."""

from __future__ import annotations

from torch import Tensor, nn

from kd.distillers.base import Batch, Distiller, Shapes
from kd.distillers.registry import create_method
from kd.models.outputs import Arrays


class DistillationLoss(nn.Module):
    """The loss of a method, with whatever it trains beside the student, such as projectors, as its parameters.

    Give its parameters to the optimiser together with those of the student; they are of no use afterwards. They are
    initialised from torch's global generator, as those of any module are.

    Args:
        method: with its options, or its name.
        student: shapes of one sample's arrays, such as `Tapped.shapes` finds them: of all that the method requires.
        teacher: as `student`.
        samples: size of the training split, for methods with a memory of all samples (crd).

    Examples:
        >>> import kd, torch
        >>> loss = kd.DistillationLoss(kd.create_method("kd"), {"logits": (5,)}, {"logits": (5,)}, samples=100)
        >>> student, teacher = {"logits": torch.zeros(4, 5)}, {"logits": torch.ones(4, 5)}
        >>> f"{loss(student, teacher, kd.Batch(torch.tensor([0, 1, 2, 3]))):.4f}"
        '0.1609'
    """

    def __init__(self, method: Distiller | str, student: Shapes, teacher: Shapes, samples: int) -> None:
        super().__init__()
        self.method = create_method(method) if isinstance(method, str) else method
        self.auxiliary = self.method.auxiliary(student, teacher, samples)

    def forward(self, student: Arrays, teacher: Arrays, batch: Batch) -> Tensor:
        """Scalar loss of a batch, with that of the labels.

        Args:
            student: arrays by name, with gradients.
            teacher: as `student`, without gradients.
            batch: labels and more.
        """
        return self.method.loss(student, teacher, batch, self.auxiliary)
