"""The label-wise embedding encoder: an embedding and a classifier of its own for each label.

Yang et al., "Multi-label knowledge distillation", ICCV 2023, after Ridnik et al., "ML-Decoder: scalable and versatile
classification head", WACV 2023: the tokens of the last map are looked at by one frozen random query a class, in one
decoder layer without self-attention.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd.models.spec import LabelEncoderOptions


class LabelEncoder(nn.Module):
    """Queries and a map to an embedding for each query.

        memory = ReLU(linear(tokens))
        q = LN(q + drop(q));  q = LN(q + drop(attention(q, memory, memory)));  e = LN(q + drop(feed_forward(q)))

    Args:
        channels: of the map.
        options: widths, heads, dropout.
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
    """Frozen queries for the labels of a dataset, and an independent linear classifier for each.

    Args:
        classes: how many labels.
        width: of an embedding.
    """

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
    """One encoder, and a head for each dataset.

    Args:
        channels: of the map.
        classes: labels of each dataset.
        options: of the encoder.
    """

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
