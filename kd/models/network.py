"""Individual teachers and students: a backbone, a latent layer, classifiers or a label-wise encoder, and taps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from kd.common.errors import UserError
from kd.models.backbones.base import stored_backbone
from kd.models.outputs import Outputs, shapes_of
from kd.models.spec import LEVELS, LabelEncoderOptions, Level, NetworkConfig

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Network(nn.Module):
    """backbone -> latent (linear, no activation) -> heads (MLFD, individual teachers).

    With a label-wise encoder: backbone -> last map -> an embedding for each label -> a classifier for each (L2D).

    Input is in 0..1 and of any size; the network resizes and normalises it itself, so that teachers of
    different input sizes and statistics can look at the same view.

    Raises:
        UserError: the backbone cannot be built.

    Examples:
        >>> import kd
        >>> kd.create_network("test_resnet", 5, latent_dim=64).latent
        Linear(in_features=96, out_features=64, bias=True)
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.notes: dict[str, int] = {}  # what is to be said of the weights that it was given, and how often
        self.kind = stored_backbone(config.backbone)
        self.backbone: Any = self.kind.create(config)  # its module has attributes that nn.Module does not promise
        features, channels = self.kind.width(self.backbone)
        width = config.latent_dim or features
        self.latent = nn.Linear(features, width) if config.latent_dim else nn.Identity()
        self.heads = Heads(width, {} if config.label_encoder else config.heads)
        self.labels = LabelClassifier(channels, config.heads, config.label_encoder) if config.label_encoder else None
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, inputs: Tensor, levels: Sequence[Level] = ()) -> Outputs:
        """Classify a batch and tap it.

        Args:
            inputs: (B, ...) float in 0..1, of the modality that the backbone takes; images are (B, 3, H, W) RGB.
            levels: which of L2, L3, L4 to return maps of; the vector (L1) and logits always come.
        """
        tapped = {*levels, "L2"} if self.labels is not None else {*levels}
        wanted = [level for level in LEVELS[1:] if level in tapped]
        pooled, maps = self.kind.forward(self.backbone, self.normalise(inputs), wanted)
        vector = self.latent(pooled)
        if self.labels is None:
            return Outputs(vector, maps, self.heads(vector))
        logits, embeddings = self.labels(maps["L2"])
        # What only the vector comes from has a gradient of zero, not none: other processes wait for one.
        zero = vector[:0].sum()
        return Outputs(vector, maps, {name: each + zero for name, each in logits.items()}, embeddings)

    def resize(self, inputs: Tensor) -> Tensor:
        """A batch at the size that the backbone takes."""
        return self.kind.resize(inputs, self.config)

    def normalise(self, inputs: Tensor) -> Tensor:
        """Bring a batch to the size that the backbone takes, and normalise it with the network's statistics.

        Raises:
            UserError: the batch is of whole numbers, such as 0..255, and not of 0..1.
        """
        if not inputs.is_floating_point():
            raise UserError(f"inputs: are {inputs.dtype}, expected floats in 0..1")
        return (self.resize(inputs) - self.mean).div_(self.std)

    def example(self) -> Tensor:
        """A batch of one sample of zeros, as `forward` takes it."""
        return self.kind.example(self.config)


class Tap(nn.Module):
    """A network that gives arrays of one dataset, by name, as methods compare them.

    Args:
        module: a `Network`.
        names: of the arrays, as in `Outputs.arrays`.
        dataset: whose head is read.
    """

    def __init__(self, module: nn.Module, names: Sequence[str], dataset: str) -> None:
        super().__init__()
        self.module, self.names, self.dataset = module, tuple(dict.fromkeys(names)), dataset
        self.levels: list[Level] = [level for level in LEVELS if level in names]

    def forward(self, inputs: Any) -> dict[str, Tensor]:
        """A batch, as the network takes it, to its arrays in the order of `names`."""
        outputs: Outputs = self.module(inputs, self.levels)
        return outputs.arrays(self.dataset, self.names)


class Heads(nn.Module):
    """A linear classifier per dataset, whatever the names of the datasets are."""

    def __init__(self, width: int, classes: dict[str, int]) -> None:
        super().__init__()
        # The prefix keeps names such as `train` or `type` off the attributes of nn.ModuleDict.
        self.by_dataset = nn.ModuleDict({f"on_{name}": nn.Linear(width, count) for name, count in classes.items()})

    def __getitem__(self, dataset: str) -> nn.Linear:
        head = self.by_dataset[f"on_{dataset}"]
        assert isinstance(head, nn.Linear)
        return head

    def datasets(self) -> list[str]:
        """Names of the datasets."""
        return [name.removeprefix("on_") for name in self.by_dataset]

    def forward(self, vector: Tensor) -> dict[str, Tensor]:
        """(B, D) to logits (B, classes) by dataset."""
        return {name: self[name](vector) for name in self.datasets()}


class LabelEncoder(nn.Module):
    """The label-wise embedding encoder: queries and a map to an embedding for each query.

    Yang et al., "Multi-label knowledge distillation", ICCV 2023, after Ridnik et al., "ML-Decoder: scalable and
    versatile classification head", WACV 2023: the tokens of the last map are looked at by one frozen random query a
    class, in one decoder layer without self-attention.

        memory = ReLU(linear(tokens))
        q = LN(q + drop(q));  q = LN(q + drop(attention(q, memory, memory)));  e = LN(q + drop(feed_forward(q)))

    `channels` are those of the map.
    """

    def __init__(self, channels: int, options: LabelEncoderOptions) -> None:
        super().__init__()
        width = options.width
        self.project = nn.Sequential(nn.Linear(channels, width), nn.ReLU())
        self.attention = nn.MultiheadAttention(width, options.heads, dropout=options.dropout, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, options.hidden), nn.ReLU(), nn.Dropout(options.dropout), nn.Linear(options.hidden, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, maps: Tensor, queries: Tensor) -> Tensor:
        """(B, C, h, w) and (classes, width) to (B, classes, width)."""
        memory = self.project(maps.flatten(2).transpose(1, 2))
        x = queries.expand(len(maps), -1, -1)
        x = self.norms[0](x + self.dropout(x))
        attended, _ = self.attention(x, memory, memory, need_weights=False)
        x = self.norms[1](x + self.dropout(attended))
        embeddings: Tensor = self.norms[2](x + self.dropout(self.feed_forward(x)))
        return embeddings


class LabelHead(nn.Module):
    """Frozen queries for the labels of a dataset, and an independent linear classifier for each, on its embedding."""

    queries: Tensor

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("queries", torch.randn(classes, width))
        self.weight = nn.Parameter(torch.empty(classes, width))
        self.bias = nn.Parameter(torch.zeros(classes))
        nn.init.xavier_normal_(self.weight)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, classes, width) to logits (B, classes)."""
        return (embeddings * self.weight).sum(dim=2) + self.bias


class LabelClassifier(nn.Module):
    """One encoder of maps of so many channels, and a head for each dataset, of as many classes as this has."""

    def __init__(self, channels: int, classes: dict[str, int], options: LabelEncoderOptions) -> None:
        super().__init__()
        self.encoder = LabelEncoder(channels, options)
        self.by_dataset = nn.ModuleDict(
            {f"on_{name}": LabelHead(count, options.width) for name, count in classes.items()}
        )

    def forward(self, maps: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(B, C, h, w) to logits (B, classes) and embeddings (B, classes, width), by dataset."""
        heads = {name.removeprefix("on_"): head for name, head in self.by_dataset.items()}
        embeddings = {name: self.encoder(maps, head.queries) for name, head in heads.items()}
        return {name: head(embeddings[name]) for name, head in heads.items()}, embeddings


def resample(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bring (B, C, h, w) to another grid: averaged where it shrinks, interpolated where it grows."""
    height, width = size
    if maps.shape[-2:] == (height, width):
        return maps
    if maps.shape[-2] >= height and maps.shape[-1] >= width:
        return functional.adaptive_avg_pool2d(maps, (height, width))
    return functional.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)


def tap_shapes(network: Network, names: Sequence[str], dataset: str = "") -> dict[str, tuple[int, ...]]:
    """Shape of one sample's outputs: (D,) at L1, (C, h, w) above; `logits` and `label_embeddings` of a dataset."""
    with at_rest(network):
        outputs = network(network.example(), [level for level in LEVELS if level in names])
    return shapes_of(outputs.arrays(dataset, names))


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """Inside, a module is in eval mode and nothing has gradients; afterwards each of its parts is as it was."""
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for each, mode in modes:
            each.training = mode


def freeze(module: ModuleT) -> ModuleT:
    """Put a teacher beyond training: no gradients, batch-norm statistics and dropout at rest."""
    return module.eval().requires_grad_(requires_grad=False)
