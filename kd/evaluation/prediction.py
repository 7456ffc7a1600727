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

from kd.data.packed import resize_image
from kd.data.sources.listing import is_image, open_image
from kd.jobs.errors import UserError
from kd.models.weights import EXPORT_CONFIG, EXPORT_WEIGHTS, load_network


def predict_images(student: Path, pictures: Path, top: int) -> Iterator[tuple[Path, list[tuple[str, float]]]]:
    """Classify a picture, or every picture below a folder.

    Args:
        student: directory of a student.
        pictures: an image file or a folder.
        top: number of classes to give.

    Yields:
        The path of a picture, and its most probable classes with their probabilities, best first.

    Raises:
        UserError: there is no student or no picture, or a picture cannot be decoded.
    """
    if not (student / EXPORT_CONFIG).is_file():
        raise UserError(f"{student}: holds no {EXPORT_CONFIG}; expected the directory of a student, see index.csv")
    files = _image_files(pictures)
    exported = json.loads((student / EXPORT_CONFIG).read_text())
    classes, look = exported["label_names"], _plain(student) if (student / EXPORT_WEIGHTS).is_file() else _own(student)
    for path in files:
        with torch.inference_mode():
            logits = look(open_image(path).convert("RGB"))
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
    if pictures.is_file():
        return [pictures]
    if not pictures.is_dir():
        raise UserError(f"{pictures}: no such file or folder")
    files = sorted(path for path in pictures.rglob("*") if path.is_file() and is_image(path))
    if not files:
        raise UserError(f"{pictures}: holds no images")
    return files
