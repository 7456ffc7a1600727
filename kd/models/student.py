"""A student in training: its network, and what only training needs."""

from __future__ import annotations

from torch import Tensor, nn

from kd.models.network import Network
from kd.models.outputs import Outputs
from kd.models.spec import LEVELS


class Student(nn.Module):
    """Student network and the parts that a distillation method trains beside it, which are thrown away afterwards.

    Args:
        network: the student.
        dataset: whose head is trained.
        names: what the method compares, as in `Outputs.named`.
        parts: of the method, or None.
    """

    def __init__(self, network: Network, dataset: str, names: tuple[str, ...], parts: nn.Module | None) -> None:
        super().__init__()
        self.network, self.dataset, self.parts = network, dataset, parts
        self.names = ("logits", *(name for name in names if name != "logits"))
        self.levels = [level for level in LEVELS if level in names]

    def forward(self, images: Tensor) -> Outputs:
        """(B, 3, H, W) RGB in 0..1 to what is compared, and logits."""
        features = self.network(images, self.levels)
        return Outputs.of({name: features.named(name, self.dataset) for name in self.names})
