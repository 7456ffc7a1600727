"""Classify images with a stored student."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from kd.common.errors import UserError, first_mistake
from kd.data.modalities.image import Samples, plain
from kd.data.sources.files import find_images, open_image, readable
from kd.models.weight_files import read_options
from kd.models.weights import EXPORT_CONFIG, Exported, ExportedStudent, load_network

Classified = list[tuple[str, float]]


def predict_images(student: Path, images: Path, top: int) -> Iterator[tuple[Path, Classified | UserError]]:
    """Classify an image, or every image below a folder, with the student in a directory.

    Transparent images are laid on the ground of the dataset.

    Yields:
        The path of an image, and its `top` most probable classes with their probabilities, best first; or why it cannot
        be classified.

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
        samples = Samples.model_validate(exported.sample)
    except ValidationError as error:
        raise UserError(f"{student / EXPORT_CONFIG}: sample.{': '.join(first_mistake(error))}") from error
    classes, network = exported.label_names, load_network(student)  # not by timm: config.json may tell it anything
    if list(network.config.heads.values()) != [len(classes)]:
        raise UserError(
            f"{student}: {EXPORT_CONFIG} and the network in it are not of one student; expected both of one"
        )
    model = Exported(network, *network.config.heads).eval()
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
