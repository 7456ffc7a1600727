"""Decoding: transparency, bit depths, orientation, and files that are damaged in some part."""

from __future__ import annotations

import random
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from kd.common.errors import UserError
from kd.data.decoding import REDUCED, opaque
from kd.data.options import WHITE, Colour
from kd.data.sources.files import open_image


def png(bits: int, kind: int, row: bytes, width: int, transparent: bytes) -> bytes:
    """A PNG file of one row; `kind` is the colour type of its header: 0 for grey, 2 for RGB."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0)
    parts = [(b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def transparent_files() -> dict[str, bytes]:
    """Images of two pixels: a transparent one whose hidden colour is no white, and black."""
    rgba = Image.fromarray(np.array([[[90, 60, 30, 0], [0, 0, 0, 255]]], dtype=np.uint8))
    grey = Image.fromarray(np.array([[90, 0]], dtype=np.uint8))
    palette = Image.fromarray(np.array([[1, 0]], dtype=np.uint8))
    palette.putpalette([0, 0, 0, 90, 60, 30])
    return {
        "rgba.png": saved(rgba, "PNG"),
        "rgba.webp": saved(rgba, "WEBP", lossless=True),
        "rgba.tif": saved(rgba, "TIFF"),
        "rgba.gif": saved(rgba, "GIF"),
        "rgba.tga": saved(rgba, "TGA"),
        "la.png": saved(rgba.convert("LA"), "PNG"),
        "palette.png": saved(palette, "PNG", transparency=1),
        "palette_bytes.png": saved(palette, "PNG", transparency=b"\xff\x00"),
        "grey.png": saved(grey, "PNG", transparency=90),
        "rgb.png": saved(rgba.convert("RGB"), "PNG", transparency=(90, 60, 30)),
        "grey_2_bits.png": png(2, 0, b"\x80", 2, b"\0\2"),
        "grey_4_bits.png": png(4, 0, b"\xa0", 2, b"\0\x0a"),
        "grey_16_bits.png": png(16, 0, b"\x12\x34\0\0", 2, b"\x12\x34"),
        "rgb_16_bits.png": png(16, 2, b"\x12\x34" * 3 + b"\0" * 6, 2, b"\x12\x34" * 3),
    }


@pytest.mark.parametrize(("ground", "said"), [(WHITE, "white"), ((0, 0, 0), "black"), ((9, 99, 199), "(9, 99, 199)")])
def test_opaque__lays_every_kind_of_transparency_on_the_ground(tmp_path: Path, ground: Colour, said: str) -> None:
    for name, content in transparent_files().items():
        (tmp_path / name).write_bytes(content)
        image, changes = opaque(open_image(tmp_path / name), ground)
        assert image.mode == "RGB", name
        assert np.asarray(image).tolist() == [[list(ground), [0, 0, 0]]], name
        assert changes[-1] == f"images with transparency laid on {said}", name


def test_opaque__mixes_what_is_half_transparent_and_does_not_count_what_hides_nothing() -> None:
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert np.asarray(opaque(half, (200, 100, 0))[0]).tolist() == [[[100, 50, 0]]]
    for mode in ("RGBA", "LA", "P", "L", "RGB", "1", "CMYK", "YCbCr"):
        image, changes = opaque(Image.new("RGB", (2, 2)).convert(mode), WHITE)
        assert changes == ()
        assert image.mode == ("L" if mode == "L" else "RGB")


def test_opaque__brings_sixteen_bits_to_eight_and_says_so(tmp_path: Path) -> None:
    values = np.array([[0, 16000, 32000, 65535]], dtype=np.uint16)
    for name in ("deep.png", "deep.tif", "deep.jp2", "deep.pgm"):
        Image.fromarray(values).save(tmp_path / name)
        image, changes = opaque(open_image(tmp_path / name), WHITE)
        assert np.asarray(image).tolist() == [[0, 62, 125, 255]]
        assert changes == (REDUCED,)


def test_open_image__refuses_pixels_of_unknown_range_and_colours(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.zeros((2, 2), dtype=np.int32)).save(tmp_path / "int.tiff")
    Image.new("LAB", (2, 2)).save(tmp_path / "lab.tiff")
    for name, mode in (("float", "F"), ("int", "I"), ("lab", "LAB")):
        with pytest.raises(UserError, match=rf"{name}.tiff: has pixels of mode {mode}; expected grey or RGB"):
            open_image(tmp_path / f"{name}.tiff")


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)).resize((40, 24))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_open_image__turns_images_upright(tmp_path: Path, kind: str) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = saved(NOISE, kind, exif=exif)
        (tmp_path / "image").write_bytes(content)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(content))))
        assert expected.shape[0] == (24 if orientation < 5 else 40)
        assert np.array_equal(np.asarray(open_image(tmp_path / "image")), expected)


def test_open_image__reads_the_orientation_also_from_xmp_and_from_text_of_imagemagick(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    (tmp_path / "xmp.jpg").write_bytes(saved(NOISE, "JPEG", xmp=xmp))
    assert open_image(tmp_path / "xmp.jpg").size == (24, 40)
    from PIL.PngImagePlugin import PngInfo

    text, block = PngInfo(), exif_block([(0x0112, 3, 1, struct.pack("<HH", 6, 0))])
    text.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n")
    (tmp_path / "text.png").write_bytes(saved(NOISE, "PNG", pnginfo=text))
    assert open_image(tmp_path / "text.png").size == (24, 40)


def exif_block(entries: list[tuple[int, int, int, bytes]], rest: bytes = b"") -> bytes:
    """Entries are tag, type, count and four bytes of value or offset; `rest` is at offset 14 + 12 for each entry."""
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4) + rest


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG file without a JFIF header, as cameras write it, with further segments."""
    content = saved(NOISE, "JPEG", quality=95)
    start = 4 + int.from_bytes(content[4:6], "big")
    parts = [bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments]
    return content[:2] + b"".join(parts) + content[start:]


UPRIGHT = (0x0112, 3, 1, struct.pack("<HH", 6, 0))


RESOLUTION = (0x011A, 10, 1, struct.pack("<I", 58))
BROKEN = [
    [(0xE1, exif_block([(0x010F, 5, 1, struct.pack("<I", 40)), UPRIGHT], struct.pack("<II", 1, 2)))],
    [(0xE1, exif_block([UPRIGHT, RESOLUTION, (0x0128, 3, 1, b"\2\0\0\0")], bytes(8) + struct.pack("<ii", -1, 0)))],
    [(0xE1, exif_block([UPRIGHT, (0x8769, 4, 1, b"\xff" * 4)]))],
    [(0xE1, exif_block([UPRIGHT, UPRIGHT, UPRIGHT])[:30])],
    [(0xE1, exif_block([UPRIGHT])), (0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff")],
    [(0xE1, exif_block([UPRIGHT])), (0xED, b"Photoshop 3.0\x008BIM\4")],
]


@pytest.mark.parametrize("segments", BROKEN)
def test_open_image__uses_sound_pixels_and_a_readable_orientation_beside_broken_metadata(
    tmp_path: Path, segments: list[tuple[int, bytes]]
) -> None:
    (tmp_path / "image.jpg").write_bytes(jpeg(*segments))
    sound = Image.open(BytesIO(jpeg())).transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(np.asarray(open_image(tmp_path / "image.jpg")), np.asarray(sound))


def test_open_image__no_exif_block_costs_an_image(tmp_path: Path) -> None:
    rng = random.Random(0)
    sound = np.asarray(Image.open(BytesIO(jpeg())))
    kinds = [0x010F, 0x0112, 0x011A, 0x011B, 0x0128, 0x8769, 0x8825, 0xA005, 0x927C]
    for _ in range(300):
        entries = [
            (rng.choice(kinds), rng.randrange(15), rng.choice([0, 1, 2, 2**31]), rng.randbytes(4)) for _ in range(4)
        ]
        block = exif_block(entries, rng.randbytes(20))
        block = block[: rng.choice([len(block), rng.randrange(len(block))])]
        (tmp_path / "image.jpg").write_bytes(jpeg((0xE1, block)))
        decoded = np.asarray(open_image(tmp_path / "image.jpg"))
        assert decoded.size == sound.size
        assert (decoded == sound).all() if decoded.shape == sound.shape else decoded.sum() == sound.sum()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "JPEG2000", "PPM", "TGA", "QOI"])
def test_open_image__of_damaged_files_gives_an_image_or_names_the_file(tmp_path: Path, kind: str) -> None:
    rng = random.Random(0)
    content = saved(NOISE, kind)
    path, said = tmp_path / "image.any", []
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(rng.randrange(4)):
            damaged[rng.randrange(min(len(damaged), 400))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])])
        try:
            image, _ = opaque(open_image(path), WHITE)
            assert image.mode in ("L", "RGB")
        except UserError as error:
            said.append(str(error))
    assert len(said) > 5
    assert all(text.startswith(f"{path}: ") for text in said)


def test_open_image__names_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "nothing.png", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=rf"{path}: cannot be read \({said}"):
            open_image(path)
    for content, said in ((b"", "is not an image that can be decoded"), (saved(NOISE, "PNG")[:900], "damaged image")):
        (tmp_path / "image.png").write_bytes(content)
        with pytest.raises(UserError, match=rf"image.png: {said}"):
            open_image(tmp_path / "image.png")
