"""A student in training: its network, and what only training needs."""

from __future__ import annotations

from torch import Tensor, nn

from kd.models.network import Network
from kd.models.outputs import Outputs
from kd.models.spec import LEVELS


class Student(nn.Module):
    """Student network and the auxiliary modules of a method: trained beside it, and thrown away afterwards.

    Args:
        network: the student.
        dataset: whose head is trained.
        names: what the method compares, as in `kd.models.outputs.Arrays`.
        auxiliary: modules of the method, or None.
    """

    def __init__(self, network: Network, dataset: str, names: tuple[str, ...], auxiliary: nn.Module | None) -> None:
        super().__init__()
        self.network, self.dataset, self.auxiliary = network, dataset, auxiliary
        self.names = ("logits", *(name for name in names if name != "logits"))
        self.levels = [level for level in LEVELS if level in names]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) RGB in 0..1 to what is compared, and logits."""
        outputs: Outputs = self.network(images, self.levels)
        return outputs.arrays(self.dataset, self.names)
