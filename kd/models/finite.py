"""Whether tensors are finite, looked at on their device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def peaks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Largest magnitude of each floating tensor that is not empty, (), where the tensor is; NaN if it holds one."""
    return list(torch._foreach_norm(list(tensors), torch.inf)) if tensors else []  # noqa: SLF001 - timm uses it, too


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor that holds NaN or an infinity. The device is waited for once."""
    floating = {name: value for name, value in tensors.items() if value.is_floating_point() and value.numel()}
    if not floating:
        return None
    bad = (~torch.stack([peak.isfinite() for peak in peaks(list(floating.values()))])).nonzero().flatten().tolist()
    return list(floating)[bad[0]] if bad else None
