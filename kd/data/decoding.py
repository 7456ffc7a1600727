"""From the bytes of an image file to pixels of 8 bits: upright, and without transparency."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from PIL.Image import Transpose

from kd.data.options import Colour

SIXTEEN_BITS = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
# The others have no known range (I, F), or PIL cannot convert them (LAB).
MODES = SIXTEEN_BITS | {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"}

REDUCED = "images with 16 bits per pixel reduced to 8"
COLOURS = {(255, 255, 255): "white", (0, 0, 0): "black"}

UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
ORIENTATION = 0x0112  # the EXIF tag
INTEGERS = {1: "B", 3: "H", 4: "I", 8: "h", 9: "i"}  # EXIF types that it may have, as struct names them
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def decode(content: bytes) -> Image.Image:
    """Decode the first frame of an image file and turn it upright.

    Metadata are read here and not by PIL: a fault in them must not cost an image whose pixels are sound.

    Raises:
        PIL.UnidentifiedImageError: this is no image.
        Exception: whatever PIL meets in a damaged file.
    """
    metadata: dict[str, Any] = {}
    if content.startswith(b"\xff\xd8"):
        content, metadata = _without_metadata(content)
    with Image.open(BytesIO(content)) as image:
        image.load()
        if image.format == "PNG":
            _scale_transparency(image, bits=content[24])
        if image.format == "PPM" and image.mode == "I":  # PIL scales 16 bits to 0..65535 and says 32
            return Image.fromarray(np.asarray(image).astype(np.uint16))
        metadata = {str(key): value for key, value in image.info.items()} | metadata
        # Of TIFF files PIL has done it already.
        turn = None if image.format == "TIFF" else UPRIGHT.get(_orientation(metadata))
        return image.copy() if turn is None else image.transpose(turn)


def _without_metadata(content: bytes) -> tuple[bytes, dict[str, Any]]:
    """A JPEG file without the segments that do not matter to its pixels, and what they say, named as PIL names it.

    PIL parses some of these segments when it opens the file. APP0 (JFIF) and APP14 (Adobe) tell the colour space.
    """
    kept, metadata, start = [content[:2]], {"exif": b"", "xmp": b""}, 2
    while content[start : start + 1] == b"\xff" and start + 4 <= len(content):
        if content[start + 1] == 0xFF:  # markers may be padded
            start += 1
            continue
        marker, length = content[start + 1], int.from_bytes(content[start + 2 : start + 4], "big")
        if not (0xC0 <= marker <= 0xFE) or 0xD0 <= marker <= 0xDA:  # the pixels begin, or this is not understood
            break
        segment = content[start : start + 2 + length]
        body = segment[4:]
        if not (0xE1 <= marker <= 0xEF and marker != 0xEE) and marker != 0xFE:
            kept.append(segment)
        elif body.startswith(EXIF):  # of several, all but the first go on where the one before ends
            metadata["exif"] += body.removeprefix(EXIF)
        elif body.startswith(XMP):
            metadata["xmp"] = body.removeprefix(XMP)
        start += 2 + length
    return b"".join([*kept, content[start:]]), metadata


def _orientation(metadata: dict[str, Any]) -> int:
    """The orientation by EXIF data, else by XMP data; 1 where neither can be read."""
    exif = metadata.get("exif") or b""
    with suppress(ValueError):  # ImageMagick writes EXIF data into PNG files as text
        exif = exif or bytes.fromhex("".join(metadata.get("Raw profile type exif", "").split("\n")[3:]))
    found = _exif_orientation(exif)
    if found is not None:
        return found
    xmp = metadata.get("xmp") or metadata.get("XML:com.adobe.xmp") or b""
    match = re.search(rb'tiff:Orientation(?:="|>)([1-8])', xmp.encode() if isinstance(xmp, str) else xmp)
    return int(match[1]) if match else 1


def _exif_orientation(block: bytes) -> int | None:
    """The orientation in an EXIF block, which may be damaged elsewhere."""
    while block.startswith(EXIF):
        block = block.removeprefix(EXIF)
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return None
    with suppress(struct.error):  # cut short
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", block, entry)
            if tag == ORIENTATION and kind in INTEGERS and count == 1:
                return int(struct.unpack_from(f"{order}{INTEGERS[kind]}", block, entry + 8)[0])
    return None


def _scale_transparency(image: Image.Image, bits: int) -> None:
    """Bring the transparent colour of a PNG file of so many bits to the range of the pixels; PIL leaves that undone."""
    colour = image.info.get("transparency")
    if image.mode == "L" and isinstance(colour, int):
        image.info["transparency"] = colour * 255 // (2**bits - 1)
    elif image.mode == "RGB" and isinstance(colour, tuple) and bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def opaque(image: Image.Image, ground: Colour) -> tuple[Image.Image, tuple[str, ...]]:
    """An image in 8-bit grey or RGB.

    Args:
        image: of one of MODES.
        ground: red, green and blue in 0..255 that show where the image is transparent.

    Returns:
        The image, and what had to be changed, in words. Transparency counts only where it shows.
    """
    changes = []
    if image.mode in SIXTEEN_BITS:
        image = _eight_bits(image)
        changes.append(REDUCED)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            changes.append(f"images with transparency laid on {COLOURS.get(ground, ground)}")
            image = Image.alpha_composite(Image.new("RGBA", image.size, ground), image)
    return (image if image.mode == "L" else image.convert("RGB")), tuple(changes)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, with an alpha channel if there is a transparent grey."""
    values = np.asarray(image)
    reduced = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        reduced.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return reduced
