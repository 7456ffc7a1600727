"""Classify pictures with a stored student."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from timm.data import create_transform, resolve_model_data_config

from kd.data.sources.listing import is_image, open_image
from kd.jobs.errors import UserError
from kd.models.weights import EXPORT_CONFIG, EXPORT_WEIGHTS


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
    for name in (EXPORT_CONFIG, EXPORT_WEIGHTS):
        if not (student / name).is_file():
            raise UserError(f"{student}: holds no {name}; expected the directory of a student, see results/index.csv")
    files = _image_files(pictures)
    model = timm.create_model(f"local-dir:{student}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(model))
    classes = model.pretrained_cfg["label_names"]
    for path in files:
        batch = transform(open_image(path).convert("RGB")).unsqueeze(0)
        with torch.inference_mode():
            probabilities = model(batch).softmax(dim=1)[0]
        best = probabilities.topk(min(top, len(classes)))
        yield path, [(classes[index], value) for value, index in zip(*(each.tolist() for each in best), strict=True)]


def _image_files(pictures: Path) -> list[Path]:
    if pictures.is_file():
        return [pictures]
    if not pictures.is_dir():
        raise UserError(f"{pictures}: no such file or folder")
    files = sorted(path for path in pictures.rglob("*") if path.is_file() and is_image(path))
    if not files:
        raise UserError(f"{pictures}: holds no images")
    return files
