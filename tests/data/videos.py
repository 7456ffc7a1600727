"""Video files for tests: flat frames, whose brightness tells which one each is."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64
STEP = 5  # of brightness; codecs change it by less than half of that
IDENTITY = bytes.fromhex("00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000")
CLOCKWISE = bytes.fromhex("00000000 00010000 00000000 ffff0000 00000000 00000000 00000000 00000000 40000000")
"""Matrices of QuickTime's `tkhd`; the second one turns what is shown clockwise by a right angle."""

# Ending, codec and options; `mpeg4` is what UCF-101 and HMDB-51 have, in AVI, often with B-frames.
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "h264": ("mp4", "libx264", {}),
    "h264_in_mkv": ("mkv", "libx264", {}),
    "mpeg4": ("avi", "mpeg4", {"qmax": "2"}),
    "mpeg4_with_b_frames": ("avi", "mpeg4", {"qmax": "2", "bf": "2"}),
    "vp9": ("webm", "libvpx-vp9", {"crf": "10"}),
    "lossless": ("mkv", "ffv1", {}),
}


def flat(count: int) -> list[np.ndarray]:
    """Frame k is of the grey STEP * k."""
    return [np.full((HEIGHT, WIDTH, 3), STEP * number, np.uint8) for number in range(count)]


def noisy(count: int) -> list[np.ndarray]:
    """The same with noise in the lower third, so that each takes many bytes of a file."""
    random, frames = np.random.default_rng(0), flat(count)
    for frame in frames:
        frame[-HEIGHT // 3 :] = random.integers(0, 256, (HEIGHT // 3, WIDTH, 3))
    return frames


def write_video(
    folder: Path, frames: Sequence[np.ndarray], kind: str = "h264", times: Sequence[int] = (), name: str = "video"
) -> Path:
    """Encode (H, W, 3) uint8 frames, 25 in a second, or shown at some times in milliseconds."""
    ending, codec, options = KINDS[kind]
    path = folder / f"{name}.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_audio(path: Path) -> Path:
    """A second of silence, without a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        assert isinstance(stream, av.AudioStream)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    return path


def turn_clockwise(path: Path) -> None:
    """Say in an MP4 file that it is to be shown turned, as telephones do."""
    content = path.read_bytes()
    start = content.index(b"tkhd")
    place = content.index(IDENTITY, start)
    path.write_bytes(content[:place] + CLOCKWISE + content[place + len(IDENTITY) :])


def pixels_of(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.asarray(image)


def numbers(frames: Sequence[np.ndarray]) -> list[int]:
    """Which frames these are, by their brightness."""
    found = [float(np.median(frame)) / STEP for frame in frames]
    assert all(abs(each - round(each)) < 0.5 for each in found), found
    return [round(each) for each in found]
