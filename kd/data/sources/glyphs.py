"""`glyphs`: the letters of an alphabet, upper and lower case, rendered from the fonts that matplotlib ships.

Split by font family: no glyph of a val or test font is ever trained on, and neither is a bold or an oblique
cut of the same family.
"""

from __future__ import annotations

import importlib.metadata
import string
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen

from kd.common.options import BaseOptions
from kd.data.sources.base import Listing, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

CUTS = ("", "-Bold", "-Oblique", "-BoldOblique")
FONTS: dict[str, list[str]] = {
    "train": [*(f"DejaVuSans{cut}" for cut in CUTS), *(f"DejaVuSansMono{cut}" for cut in CUTS)],
    "val": ["DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"],
    "test": [
        *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
        *("cmb10", "cmmi10", "cmr10", "cmss10", "cmti10", "cmtt10"),
    ],
}

LATIN_ALONE = "cm"
"""Fonts whose names begin so have Latin letters alone."""
ALPHABETS = {
    "latin": string.ascii_uppercase,
    "greek": "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ",
    "cyrillic": "АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ",
}

CHANNELS = 1


class Options(BaseOptions):
    """What to render."""

    size: Annotated[int, Ge(8)] = 32
    """Edge of the square image in pixels."""
    scales: Annotated[list[Annotated[float, Gt(0.2), Le(2)]], MinLen(1)] = [0.6, 0.75, 0.9]
    """Font sizes, as fractions of the image's edge; one image per letter, font and scale."""
    alphabet: Literal["latin", "greek", "cyrillic"] = "latin"
    """26, 24 or 32 letters."""


def fingerprint(options: Options) -> dict[str, Any]:
    """The version of the package that ships the fonts."""
    return {"matplotlib": importlib.metadata.version("matplotlib")}


def read(options: Options) -> Listing:
    """Both cases of a letter are one class, called by the upper one; 26 of the Latin alphabet, `A` to `Z`."""
    alphabet = ALPHABETS[options.alphabet]
    return Listing(
        [
            Sample(
                id=f"{font}/{letter}/{scale:g}",
                labels=(letter.upper(),),
                open=partial(render, font, letter, options.size, scale),
                split=split,
            )
            for split, fonts in FONTS.items()
            for font in fonts
            if options.alphabet == "latin" or not font.startswith(LATIN_ALONE)
            for letter in alphabet.lower() + alphabet
            for scale in options.scales
        ]
    )


def render(font: str, letter: str, size: int, scale: float) -> Image:
    """A letter, upper or lower case, in white on a black square of `size` pixels, centred by its own box.

    `font` is the name of its file without its ending; `scale` its size, as a fraction of the edge of the square.
    """
    import matplotlib as mpl
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (size, size))
    face = ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf", round(size * scale))
    ImageDraw.Draw(image).text((size / 2, size / 2), letter, fill=255, font=face, anchor="mm")
    return image
