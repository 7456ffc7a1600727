"""Classify pictures with a stored student."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from kd.data.decoding import opaque
from kd.data.packed import resize_image
from kd.data.sources.listing import find_images, open_image, readable
from kd.data.views import to_float
from kd.jobs.errors import UserError
from kd.models.checkpoints import read_options
from kd.models.weights import EXPORT_CONFIG, Exported, ExportedStudent, load_network

Classified = list[tuple[str, float]]


def predict_images(student: Path, pictures: Path, top: int) -> Iterator[tuple[Path, Classified | UserError]]:
    """Classify an image, or every image below a folder. Transparent ones are laid on the ground of the dataset.

    Args:
        student: directory of a student.
        pictures: an image file or a folder.
        top: number of classes to give.

    Yields:
        The path of an image, and its most probable classes with their probabilities, best first; or why it cannot be
        classified.

    Raises:
        UserError: there is no student or no image.
    """
    if not (student / EXPORT_CONFIG).is_file():
        raise UserError(f"{student}: holds no {EXPORT_CONFIG}; expected the directory of a student, see index.csv")
    files = _image_files(pictures)
    exported = read_options(student / EXPORT_CONFIG, ExportedStudent)
    classes, look = exported.label_names, _load(student, exported)
    for path in files:
        try:
            picture, _ = opaque(open_image(path), exported.ground)
        except UserError as error:
            yield path, error
            continue
        with torch.inference_mode():
            logits = look(picture.convert("RGB"))
        probabilities = logits.sigmoid() if exported.task == "multi_label" else logits.softmax(dim=0)
        best = probabilities.topk(min(top, len(classes)))
        yield path, [(classes[index], value) for value, index in zip(*(each.tolist() for each in best), strict=True)]


def _load(student: Path, exported: ExportedStudent) -> Callable[[Image], Tensor]:
    """Logits (classes,) of a picture, by the network that read the test split and from pixels such as it has.

    Of our own files: what config.json tells timm to load may be anything.
    """
    network = load_network(student)
    if list(network.config.heads.values()) != [len(exported.label_names)]:
        raise UserError(
            f"{student}: {EXPORT_CONFIG} and the network in it are not of one student; expected both of one"
        )
    model = Exported(network, *network.config.heads).eval()

    def look(picture: Image) -> Tensor:
        pixels = np.array(resize_image(picture, exported.image_size, exported.resize))
        logits: Tensor = model(to_float(torch.from_numpy(pixels)[None]))[0]
        return logits

    return look


def _image_files(pictures: Path) -> list[Path]:
    """The image, or those below the folder; also links to nothing, since whoever set them expects an answer."""
    if pictures.is_file():
        return [pictures]
    if not pictures.is_dir():
        raise UserError(f"{readable(pictures)}: no such file or folder")
    found = find_images(pictures)
    files = [pictures / name for name in sorted([*found.files, *found.lost])]
    if not files:
        raise UserError(f"{readable(pictures)}: holds no images")
    return files
