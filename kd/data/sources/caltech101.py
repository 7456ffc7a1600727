"""`caltech101`: Caltech-101: 8,677 images of 101 classes of things; there is no official split.

Fei-Fei et al., "Learning generative visual models from few training examples", CVPR 2004 Workshop on Generative-Model
Based Vision. The dataset's own folder is 101_ObjectCategories, with CLASS/image_0001.jpg. BACKGROUND_Google in it are
467 images of anything. `Faces` and `Faces_easy` are the same photos, whole and cut.

With `protocol: mlfd` that folder is a class, too: of 9,144 images in 102 classes 7,315 are train and 1,829 test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kd.data.sources.base import Archive, Listing
from kd.data.sources.files import IMAGES, files_digest, find_sound
from kd.data.sources.official import OfficialOptions, class_entries, counted, dataset_folder, drawn, listing_of

# It holds 101_ObjectCategories.tar.gz, which is unpacked, too.
ARCHIVES = (
    Archive(
        "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
        "sha256:331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91",
        137_414_764,
    ),
)

BACKGROUND = "BACKGROUND_Google"
OWN = "101_ObjectCategories"
PLACES = (OWN, f"caltech-101/{OWN}", f"caltech101/{OWN}", ".")
OFFICIAL = {"official": {"classes": 101, "images": 8677}, "mlfd": {"classes": 102, "images": 9144}}


class Options(OfficialOptions):
    """Where the dataset lies, and how it is split."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of every image."""
    return {"listing": files_digest(find_sound(_folder(options), IMAGES).files.items())}


def read(options: Options) -> Listing:
    """Classes are folders; ids are paths such as `accordion/image_0001.jpg`."""
    folder, mlfd = _folder(options), options.protocol == "mlfd"
    entries, notes = class_entries(folder, lambda name: name if mlfd or name != BACKGROUND else None)
    return counted(listing_of(folder, drawn(entries) if mlfd else entries, notes), OFFICIAL[options.protocol])


def _folder(options: Options) -> Path:
    return dataset_folder(options.root, "*/image_*.jpg", PLACES)
