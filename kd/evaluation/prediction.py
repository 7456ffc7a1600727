"""Classify pictures with a stored student."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from PIL.Image import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor

from kd.data.decoding import opaque
from kd.data.options import WHITE
from kd.data.packed import resize_image
from kd.data.sources.listing import find_images, open_image, readable
from kd.jobs.errors import UserError
from kd.models.weights import EXPORT_CONFIG, EXPORT_WEIGHTS, load_network

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
        raise UserError(
            f"{student}: holds no {EXPORT_CONFIG}; expected the directory of a student, see results/index.csv"
        )
    files = _image_files(pictures)
    exported = json.loads((student / EXPORT_CONFIG).read_text())
    classes, look = exported["label_names"], _plain(student) if (student / EXPORT_WEIGHTS).is_file() else _own(student)
    red, green, blue = exported.get("ground", WHITE)
    for path in files:
        try:
            picture, _ = opaque(open_image(path), (red, green, blue))
        except UserError as error:
            yield path, error
            continue
        with torch.inference_mode():
            logits = look(picture.convert("RGB"))
        multi_label = exported.get("task") == "multi_label"
        probabilities = logits.sigmoid() if multi_label else logits.softmax(dim=0)
        best = probabilities.topk(min(top, len(classes)))
        yield path, [(classes[index], value) for value, index in zip(*(each.tolist() for each in best), strict=True)]


def _plain(student: Path) -> Callable[[Image], Tensor]:
    """Logits (classes,) of a picture by a plain timm model."""
    model = timm.create_model(f"local-dir:{student}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(model))
    return lambda picture: model(transform(picture).unsqueeze(0))[0]


def _own(student: Path) -> Callable[[Image], Tensor]:
    """The same by a network with a label-wise encoder."""
    network = load_network(student).eval()
    (dataset,) = network.config.heads
    crop_mode = json.loads((student / EXPORT_CONFIG).read_text())["pretrained_cfg"]["crop_mode"]

    def look(picture: Image) -> Tensor:
        resized = resize_image(picture, network.config.input_size, "squash" if crop_mode == "squash" else "crop")
        images = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() / 255
        logits: Tensor = network(images).logits[dataset][0]
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
