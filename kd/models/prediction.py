"""Classify images with a stored student."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from kd.common.errors import UserError, first_mistake
from kd.data.modalities.base import load_modality, plain
from kd.data.sources.files import find_images, open_image, readable
from kd.models.weight_files import read_options
from kd.models.weights import EXPORT_CONFIG, Exported, ExportedStudent, load_network

Classified = list[tuple[str, float]]


def predict_images(student: Path, images: Path, top: int) -> Iterator[tuple[Path, Classified | UserError]]:
    """Classify an image, or every image below a folder. Transparent ones are laid on the ground of the dataset.

    Args:
        student: directory of a student.
        images: an image file or a folder.
        top: number of classes to give.

    Yields:
        The path of an image, and its most probable classes with their probabilities, best first; or why it cannot be
        classified.

    Raises:
        UserError: there is no student or no image.
    """
    if not (student / EXPORT_CONFIG).is_file():
        raise UserError(f"{student}: holds no {EXPORT_CONFIG}; expected the directory of a student, see index.csv")
    files = _image_files(images)
    exported = read_options(student / EXPORT_CONFIG, ExportedStudent)
    if exported.modality != "image":
        raise UserError(f"{student}: takes samples of modality {exported.modality}, expected a student of images")
    try:
        samples = load_modality(exported.modality).model_validate(exported.sample)
    except ValidationError as error:
        raise UserError(f"{student / EXPORT_CONFIG}: sample.{': '.join(first_mistake(error))}") from error
    classes, model = exported.label_names, _load(student, exported)
    for path in files:
        try:
            pixels = np.empty(samples.shape(3), np.uint8)
            samples.decode(open_image(path), pixels)
        except UserError as error:
            yield path, error
            continue
        with torch.inference_mode():
            logits = model(plain(samples, torch.from_numpy(pixels)[None]))[0]
        probabilities = logits.sigmoid() if exported.task == "multi_label" else logits.softmax(dim=0)
        best = probabilities.topk(min(top, len(classes)))
        yield path, [(classes[index], value) for value, index in zip(*(each.tolist() for each in best), strict=True)]


def _load(student: Path, exported: ExportedStudent) -> nn.Module:
    """The network that read the test split, with its one head.

    Of our own files: what config.json tells timm to load may be anything.
    """
    network = load_network(student)
    if list(network.config.heads.values()) != [len(exported.label_names)]:
        raise UserError(
            f"{student}: {EXPORT_CONFIG} and the network in it are not of one student; expected both of one"
        )
    return Exported(network, *network.config.heads).eval()


def _image_files(images: Path) -> list[Path]:
    """The image, or those below the folder; also links to nothing, since whoever set them expects an answer."""
    if images.is_file():
        return [images]
    if not images.is_dir():
        raise UserError(f"{readable(images)}: no such file or folder")
    found = find_images(images)
    files = [images / name for name in sorted([*found.files, *found.lost])]
    if not files:
        raise UserError(f"{readable(images)}: holds no images")
    return files
