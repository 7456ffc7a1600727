"""Clips: decoding and packing videos, what storing them raw costs and gives, and how long a training waits for them.

    python -m benchmarks.clips [--small]

Videos are as in UCF-101, but made here: 180 frames of 320 x 240 pixels, MPEG-4 in AVI, of a cloudy picture that moves.
Stored are 8 x (4 + 1) frames of 256 px. The plain loop decodes with PyAV and makes an array of every frame, on one
core, as decoding here does; packing has all cores. A view of a clip is 8 frames: of raw ones, all that is stored of the
clip is read and checked, and 8 are taken; of JPEG files, 8 are decoded. Both are in the page cache. The training is of
TSN with a resnet18 at 64 px.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from benchmarks.jobs import epoch_seconds, in_own_process, make_plan, make_stages, seconds_of
from benchmarks.rows import Row, main, seconds
from kd.artefacts.job import Job
from kd.data import order
from kd.data.modalities.clip import Samples
from kd.data.packed import open_split
from kd.data.packing import pack
from kd.data.sources.base import SPLITS, Sample
from kd.data.video import Video

SAMPLES = Samples(image_size=256)
QUALITY = 90  # of JPEG
WINDOW_BYTES = 32 << 20  # of an epoch that is streamed


def write_video(path: Path, frames: int, height: int, width: int, seed: int) -> Path:
    """A picture whose amplitudes fall with frequency, as in photographs, and which moves."""
    random = np.random.default_rng(seed)
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) + 1 / width
    clouds = [np.fft.irfft2(np.fft.rfft2(random.normal(size=(height, width))) / frequencies) for _ in range(3)]
    picture = np.stack([128 + 50 * each / each.std() for each in clouds], axis=2).clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, bit_rate=400_000, options={"bf": "2"})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(frames):
            moved = np.ascontiguousarray(np.roll(picture, (number, 2 * number), axis=(0, 1)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        container.mux(stream.encode())
    return path


def plain_loop(paths: list[Path]) -> None:
    """An array of every frame."""
    for path in paths:
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for frame in container.decode(video=0):
                frame.to_ndarray(format="rgb24")


def decoding(paths: list[Path], directory: Path, rounds: int) -> list[Row]:
    """Clips per second of decoding, and of packing into a directory, in units of the plain loop's."""
    out = np.empty(SAMPLES.shape(3), np.uint8)
    listed = [Sample(path.stem, (str(row % 2),), partial(Video, path)) for row, path in enumerate(paths)]
    codes = np.arange(len(paths)) // 2 % len(SPLITS)

    def packed() -> None:
        pack(directory, "clips", listed, codes, ["0", "1"], task="single_label", modality=SAMPLES, channels=3)

    ratios: dict[str, list[float]] = {
        "decoded and reduced to 256 pixels, on one core": [],
        "packed with 256 pixels, on all cores": [],
    }
    for _ in range(rounds):
        reference = seconds(lambda: plain_loop(paths))
        ours = seconds(lambda: [SAMPLES.decode(Video(path), out) for path in paths])
        ratios["decoded and reduced to 256 pixels, on one core"].append(reference / ours)
        ratios["packed with 256 pixels, on all cores"].append(reference / seconds(packed))
    against = "an array of each frame by a plain loop over PyAV"
    return [
        Row(f"clips of 320 x 240 pixels per second that are {what}", against, each) for what, each in ratios.items()
    ]


def storing(directory: Path, rounds: int) -> list[Row]:
    """Bytes of packed clips, and time until the frames of a view are there, in units of those of JPEG files."""
    stored = open_split(directory, "train").images
    files = [[jpeg(frame) for frame in clip] for clip in stored.read()]
    places = np.arange(SAMPLES.segments) * SAMPLES.candidates
    times = []
    for _ in range(rounds):
        raw = seconds(lambda: [stored.read(slice(row, row + 1))[0][places] for row in range(stored.rows)])
        decoded = seconds(
            lambda: [[np.asarray(Image.open(BytesIO(file[place]))) for place in places] for file in files]
        )
        times.append(raw / decoded)
    size = sum(len(frame) for file in files for frame in file)
    against = f"each frame as JPEG of quality {QUALITY}"
    return [
        Row("bytes of clips that are packed, raw", against, [stored.rows * stored.row_bytes / size]),
        Row("seconds until the frames of a view of a packed clip are there", against, times),
    ]


def jpeg(frame: np.ndarray) -> bytes:
    """An encoded frame."""
    stream = BytesIO()
    Image.fromarray(frame).save(stream, "jpeg", quality=QUALITY)
    return stream.getvalue()


def config(*, small: bool) -> dict[str, Any]:
    """One teacher of clips."""
    source = {"type": "moving_digits", "size": 64, "count": 25 if small else 100, "actions": ["left", "right"]}
    return {
        "datasets": {"moving": {"source": source, "image_size": 64, "split": {"val": 4 if small else 20}}},
        "models": {"tsn": {"backbone": "tsn", "architecture": "test_resnet" if small else "resnet18"}},
        "augmentations": {"shake": {"crop": [0.6, 1.0]}},
        "recipes": {"short": {"lr": 0.001, "epochs": 2 if small else 4, "batch_size": 16, "augmentation": "shake"}},
        "teachers": {"tsn": {"dataset": "moving", "model": "tsn", "recipe": "short"}},
    }


def epoch_of(job: Job, *, streamed: bool) -> float:
    """Median seconds of an epoch but the first; call it `in_own_process`."""
    if streamed:
        os.environ |= {"KD_RAM_GIB": "0", "KD_DEVICE_GIB": "0"}
        order.WINDOW_BYTES = WINDOW_BYTES
    seconds_of(job)
    return float(epoch_seconds(job)[1:].median())


def waiting(*, small: bool) -> list[Row]:
    """What an epoch takes longer where clips are read from disk while it computes."""
    with tempfile.TemporaryDirectory() as name:
        plan = make_plan(Path(name), config(small=small))
        make_stages(plan, "prepare_dataset")
        (job,) = plan.stage("train_teacher")
        ratios = []
        for _ in range(1 if small else 3):
            streamed, held = (in_own_process(epoch_of, job, streamed=each) for each in (True, False))
            ratios.append(streamed / held)
    return [Row("an epoch of training on clips, streamed from disk", "the same with all clips in memory", ratios)]


def measure(*, small: bool = False) -> list[Row]:
    """Decoding, storing, then training."""
    count, frames, rounds = (6, 20, 1) if small else (24, 180, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [write_video(folder / f"{seed}.avi", frames, 240, 320, seed) for seed in range(count)]
        rows = decoding(paths, folder / "packed", rounds) + storing(folder / "packed", rounds)
    return rows + waiting(small=small)


if __name__ == "__main__":
    main(measure)
