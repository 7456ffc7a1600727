"""`voc`: PASCAL VOC 2007 as its devkit lays it out: 9,963 images, 20 classes.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010. Below `root`:
JPEGImages/000005.jpg, Annotations/000005.xml, ImageSets/Main/{trainval,test,train,val}.txt.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

from kd.common.errors import UserError
from kd.data.sources.base import Listing
from kd.data.sources.clean import ListEntry, ListOptions, clean_list, read_lines, stripped
from kd.data.sources.files import tree_digest

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

TASKS = ("multi_label",)

FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
STARTS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    "<?".encode("utf-16-le"): "utf-16-le",
    "<?".encode("utf-16-be"): "utf-16-be",
}
DECLARATION = re.compile(rb"""\s*<\?xml\b[^>]*?\bencoding\s*=\s*["']([\w.:-]+)["']""")
SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030"}
"""Codecs that read all that files of that name hold in practice."""


class Options(ListOptions):
    """Paths of the dataset, and which objects count."""

    root: Path
    """The folder VOC2007, with JPEGImages, Annotations and ImageSets."""
    difficult: Literal["positive", "ignore"] = "positive"
    """What objects are that are marked as difficult: labels like others (`positive`, as in L2D), or none (`ignore`)."""
    official_val: bool = False
    """`true`: train and val are as the devkit divides them; `false`: its trainval is train, and val is drawn from
    it."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of all lists, annotations and images."""
    return {"files": tree_digest(*(options.root / name for name in ("ImageSets/Main", "Annotations", "JPEGImages")))}


def read(options: Options) -> Listing:
    """All 20 classes are listed; ids are the numbers of the images, such as `000005`."""
    return clean_list(options.root, _listed(options), options, CLASSES).listing()


def _listed(options: Options) -> Iterator[ListEntry]:
    lists = {"train": "trainval", "test": "test"}
    if options.official_val:
        lists = {"train": "train", "val": "val", "test": "test"}
    for split, name in lists.items():
        file = options.root / "ImageSets" / "Main" / f"{name}.txt"
        for number, line in read_lines(file):
            image = options.root / "JPEGImages" / f"{line}.jpg"
            annotation = options.root / "Annotations" / f"{line}.xml"
            place = f"{file}, line {number}"
            yield ListEntry(line, image, _labels(annotation, options, place), split, place)


def _labels(annotation: Path, options: Options, place: str) -> tuple[str, ...]:
    """Names of the objects in an image."""
    try:
        root = ET.fromstring(_text(annotation.read_bytes()))
    except FileNotFoundError as error:
        raise UserError(f"{place}: {annotation}: no such file") from error
    except OSError as error:
        raise UserError(f"{annotation}: cannot be read ({error.strerror})") from error
    except (ET.ParseError, LookupError, ValueError) as error:
        raise UserError(f"{annotation}: is not XML that can be read ({error})") from error
    if root.tag != "annotation":
        raise UserError(f"{annotation}: is XML of another kind: its root is {root.tag!r}, expected 'annotation'")
    names = []
    for number, each in enumerate(root.findall("object"), start=1):
        name = stripped(each.findtext("name", ""))
        if not name:
            raise UserError(f"{annotation}: has an object without a name, number {number}")
        if options.difficult == "positive" or not _is_difficult(each, f"{annotation}, object {number} ({name})"):
            names.append(name)
    return tuple(names)


def _is_difficult(thing: ET.Element, place: str) -> bool:
    """Whether the object is flagged difficult; without a flag it is not."""
    flag = stripped(thing.findtext("difficult", "0"))
    if flag.lower() not in FLAGS:
        raise UserError(f"{place}: difficult is {flag!r}, expected 0 or 1")
    return FLAGS[flag.lower()]


def _text(data: bytes) -> str:
    """An XML file decoded as its first bytes or its declaration say, by any codec that Python has.

    Raises:
        LookupError: there is no such codec.
        ValueError: it does not fit the bytes, or the file declares entities. No annotation needs these, and a few
            lines of them can stand for gigabytes.
    """
    found = next((codec for start, codec in STARTS.items() if data.startswith(start)), None)
    declared = DECLARATION.match(data)
    if found is None and declared:
        found = declared[1].decode().lower()
        # Declared in bytes that are ASCII, these are wrong: .NET writes them into files in UTF-8.
        found = "utf-8" if found.startswith(("utf-16", "utf-32", "ucs")) else SUPERSETS.get(found, found)
    text = data.decode(found or "utf-8")
    if "<!ENTITY" in text:
        raise ValueError("it declares entities")
    return text
