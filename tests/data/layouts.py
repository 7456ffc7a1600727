"""Tiny multi-label datasets, laid out on disk as the real ones are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image

from kd.data.sources.coco import CLASSES as COCO_CLASSES

Content = Mapping[str, list[tuple[str, tuple[str, ...]]]]
"""By split, number and labels of each image, as often as the list has it."""

CONTENT: Content = {
    "train": [("000005", ("cat", "dog")), ("000007", ("dog",)), ("000009", ("person",))],
    "test": [("000001", ("cat",)), ("000002", ("dog", "person"))],
}
CONCEPTS = ("zebra", "person", "dog", "cat")
FAULTY_LINE = "-1130179"


def draw_image(path: Path, value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((10, 12, 3), value, dtype=np.uint8)).save(path)


def make_voc(root: Path, content: Content = CONTENT) -> Path:
    """`VOC2007` of the devkit; the last object of an image with several is difficult, and a person has a head.

    Returns:
        Its root.
    """
    folder = root / "VOC2007"
    for split, rows in content.items():
        for number, labels in rows:
            draw_image(folder / "JPEGImages" / f"{number}.jpg")
            annotation = ET.Element("annotation")
            ET.SubElement(annotation, "folder").text = "VOC2007"
            ET.SubElement(annotation, "filename").text = f"{number}.jpg"
            for place, label in enumerate(labels):
                thing = ET.SubElement(annotation, "object")
                ET.SubElement(thing, "name").text = label
                ET.SubElement(thing, "difficult").text = str(int(place > 0))
                if label == "person":
                    ET.SubElement(ET.SubElement(thing, "part"), "name").text = "head"
            file = folder / "Annotations" / f"{number}.xml"
            file.parent.mkdir(exist_ok=True)
            ET.ElementTree(annotation).write(file)
        lists = {"train": {"trainval": rows, "train": rows[:2], "val": rows[2:]}, "test": {"test": rows}}[split]
        for name, listed in lists.items():
            file = folder / "ImageSets" / "Main" / f"{name}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{number}\n" for number, _ in listed))
    return folder


def make_coco(root: Path, content: Content = CONTENT) -> Path:
    """`train2014`, `val2014` and `annotations`; every label has two instances, one of them a crowd.

    Returns:
        Their root.
    """
    for split, rows in content.items():
        folder = {"train": "train2014", "test": "val2014"}[split]
        names = [*COCO_CLASSES, "unicorn"]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image, (number, labels) in enumerate(rows):
            name = f"COCO_{folder}_000000{number}.jpg"
            draw_image(root / folder / name)
            images.append({"license": 5, "file_name": name, "height": 10, "width": 12, "id": 900 + image})
            for label in labels:
                outlines: list[Any] = [[[1.5, 1.5, 2.5, 1.5, 2.0, 2.5]], {"counts": [0, 120], "size": [10, 12]}]
                annotations += [
                    {
                        "segmentation": outline,
                        "iscrowd": crowd,
                        "image_id": 900 + image,
                        "bbox": [1.0, 1.0, 2.0, 2.0],
                        "category_id": names.index(label) + 1,
                        "id": 5000 + len(annotations) + crowd,
                    }
                    for crowd, outline in enumerate(outlines)
                ]
        document = {
            "info": {"year": 2014},
            "images": images,
            "licenses": [],
            "annotations": annotations,
            "categories": [
                {"supercategory": "thing", "id": place, "name": name} for place, name in enumerate(names, start=1)
            ],
        }
        file = root / "annotations" / f"instances_{folder}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(document))
    return root


def make_nus_wide(root: Path, content: Content = CONTENT) -> Path:
    r"""`Flickr`, `ImageList` with lines as `actor\0001_000005.jpg`, `TrainTestLabels`, `Concepts81.txt`.

    A label that is none of the concepts is written as the official files have their one fault.

    Returns:
        Their root.
    """
    for folder in ("ImageList", "TrainTestLabels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "Concepts81.txt").write_text("".join(f"{concept}\n" for concept in CONCEPTS))
    for split, rows in content.items():
        part = split.capitalize()
        for number, _ in rows:
            draw_image(root / "Flickr" / "actor" / f"0001_{number}.jpg")
        lines = "".join(f"actor\\0001_{number}.jpg\r\n" for number, _ in rows)
        (root / "ImageList" / f"{part}Imagelist.txt").write_bytes(lines.encode())
        for concept in CONCEPTS:
            values = ["1" if concept in labels else "0" for _, labels in rows]
            if concept == "zebra":
                values = [FAULTY_LINE if set(labels) - set(CONCEPTS) else "0" for _, labels in rows]
            file = root / "TrainTestLabels" / f"Labels_{concept}_{part}.txt"
            file.write_text("".join(f"{value}\n" for value in values))
    return root


def make_csv(root: Path, content: Content = CONTENT) -> Path:
    """A manifest with lists of labels.

    Returns:
        The file.
    """
    lines = ["path,label,split"]
    for split, rows in content.items():
        for number, labels in rows:
            draw_image(root / f"{number}.png")
            lines.append(f"{number}.png,{'|'.join(labels)},{split}")
    file = root / "list.csv"
    file.write_text("\n".join(lines) + "\n")
    return file
