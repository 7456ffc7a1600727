"""`imagenet_sketch`: ImageNet-Sketch: 50,889 drawings of the 1,000 classes of ImageNet; there is no official split.

Wang et al., "Learning Robust Global Representations by Penalizing Local Predictive Power", NeurIPS 2019. The dataset's
own folder is sketch, with n01440764/sketch_0.JPEG. Classes are called by these numbers of WordNet, since two pairs of
them have one English name. The authors filled up small classes with turned and mirrored copies, so any drawn split may
have a drawing in train and its copy in test.

With `protocol: mlfd`, 40,712 are train and 10,177 test, as of the last of five folds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kd.common.errors import UserError
from kd.data.sources.base import Listing
from kd.data.sources.files import IMAGES, files_digest, find_sound, readable
from kd.data.sources.official import OfficialOptions, class_entries, counted, dataset_folder, drawn, listing_of

BY_HAND = (
    "get ImageNet-Sketch.zip (7.6 GB) from https://huggingface.co/datasets/songweig/imagenet_sketch or from"
    " https://www.kaggle.com/datasets/wanghaohan/imagenetsketch, unpack it, and say its folder in source.root"
)

PLACES = ("sketch", "ImageNet-Sketch/sketch", "imagenet-sketch/images", "images", ".")
WNID = re.compile(r"n\d{8}")
OFFICIAL = {"classes": 1000, "images": 50_889}


class Options(OfficialOptions):
    """Where the dataset lies, and how it is split."""

    root: Path
    """The folder sketch, or the one that ImageNet-Sketch.zip was unpacked in; it cannot be downloaded by the
    program."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of every image."""
    return {"listing": files_digest(find_sound(_folder(options), IMAGES).files.items())}


def read(options: Options) -> Listing:
    """Classes are folders such as `n01440764`; ids are paths such as `n01440764/sketch_0.JPEG`."""
    folder = _folder(options)

    def label_of(name: str) -> str:
        if not WNID.fullmatch(name):
            raise UserError(
                f"source.root: {readable(folder)}/{name} holds images; expected only folders such as n01440764"
            )
        return name

    entries, notes = class_entries(folder, label_of)
    if options.protocol == "mlfd":
        entries = drawn(entries, up=False)
    return counted(listing_of(folder, entries, notes), OFFICIAL)


def _folder(options: Options) -> Path:
    return dataset_folder(options.root, "n[0-9]*/sketch_*.JPEG", PLACES)
