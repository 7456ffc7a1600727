"""Checkpoints of programs for action recognition, in the names that timm has for the same weights.

MMAction2 (0.x and 1.x; `backbone.layer1.0.conv1.conv.weight`, in TSM `conv1.conv.net.weight`; `cls_head.fc_cls`) and
mit-han-lab's temporal-shift-module (`base_model.layer1.0.conv1.weight`, in TSM `conv1.net.weight`; `new_fc`). Shifts
have no weights: which of both a checkpoint is for is seen by these names alone.
"""

from __future__ import annotations

import re
from typing import Any

FOREIGN = re.compile(r"(?:^|\.)(backbone(?=\..*\.conv\.)|base_model)\.layer1\.0\.conv1(?:\.conv)?(\.net)?\.weight$")
"""A name that tells such a program, with what it calls the network before the classifier, and with a mark of shifts."""
SAME = (
    (re.compile(r"\bconv(\d)\.bn\."), r"bn\1."),
    (re.compile(r"\bdownsample\.conv\."), "downsample.0."),
    (re.compile(r"\bdownsample\.bn\."), "downsample.1."),
    (re.compile(r"\bconv(\d)(?:\.conv)?(?:\.net)?\.(weight|bias)$"), r"conv\1.\2"),
)
"""Endings of names, and what timm has for them."""
CLASSIFIER = re.compile(r"(^|\.)(?:cls_head\.fc_cls|new_fc)\.")


def in_names_of_timm(groups: dict[str, dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], str | None]:
    """Rename the weights of a checkpoint, as `kd.models.weight_files.read_tensors` gives them, to timm's names.

    Also returns the backbone that they are for, None where none of these programs wrote them.
    """
    foreign = next(filter(None, (FOREIGN.search(name) for group in groups.values() for name in group)), None)
    if foreign is None:
        return groups, None
    network, shifted = foreign.groups()
    renamed = {
        place: {_renamed(name, network): value for name, value in group.items()} for place, group in groups.items()
    }
    return renamed, "tsm" if shifted else "tsn"


def _renamed(name: str, network: str) -> str:
    for theirs, ours in SAME:
        name = theirs.sub(ours, name)
    return CLASSIFIER.sub(rf"\1{network}.fc.", name)
