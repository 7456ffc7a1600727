"""Video files: their frames in the order of output, upright, and those of a rule that depends on how many there are.

Decoded is from the start and in sequence, since seeking lands elsewhere in some files (MPEG-4 in AVI, with B-frames).
How many frames there are is what comes out of the decoder: headers and frame rates are wrong in many files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.common.errors import UserError, shown

if TYPE_CHECKING:
    import numpy as np
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream
    from PIL import Image

    Convert = Callable[[Image.Image], np.ndarray]

DAMAGED = "videos with damaged parts, of which is taken what can be decoded"
FEWER = "videos with fewer frames than their headers say"
BEYOND = "parts of videos that go on behind the end of the video"
ROUNDED = 1.0  # seconds that a part may go on behind its video, since durations are rounded
WHOLE: tuple[float, float] = (0, math.inf)

Choose = Callable[[int], "np.ndarray"]
"""From the number of frames to the indices of those that are wanted, (F,) int64, each below that number."""


@dataclass(frozen=True)
class Video:
    """A video file, or its part from `start` up to but not including `end`, in seconds after its first frame."""

    path: Path
    start: float = 0
    end: float = math.inf

    def read(self, choose: Choose, convert: Convert) -> tuple[list[np.ndarray], int, tuple[str, ...]]:
        """Frames that a rule chooses; `convert` brings each, upright and in RGB, to its final form.

        The rule wants to know how many frames there are, which is known after the last one. Until then the number of
        packets stands for it: so a video is decoded once, but for one that has not as many frames as packets.

        Returns:
            The frames in the order of the indices; how many there are to choose from; what is odd, in words.

        Raises:
            UserError: the file cannot be read, is no video, or has no frame in this part.
        """
        notes: set[str] = set()
        try:
            expected = max(1, self._packets())
            taken, count = _take(self._frames(notes), choose(expected), convert)
            if not count:
                end = "its end" if self.end == math.inf else f"{self.end:g} s"
                part = "" if (self.start, self.end) == WHOLE else f" from {self.start:g} s to {end}"
                raise UserError(f"{shown(self.path)}: holds no frame that can be decoded{part}")
            if count != expected:
                taken, count = _take(self._frames(notes), choose(count), convert)
        except OSError as error:
            raise UserError(f"{shown(self.path)}: cannot be read ({error.strerror or error})") from error
        return [taken[index] for index in choose(count).tolist()], count, tuple(sorted(notes))

    def _frames(self, notes: set[str]) -> Iterator[VideoFrame]:
        """All frames of this part; in `notes` goes what is odd, once the last one is out of the decoder."""
        first, number, time = None, 0, 0.0
        with self._opened() as (container, stream):
            for frame in _decoded(container, stream, notes):
                first, number = frame.pts if first is None else first, number + 1
                time = self._seconds(frame.pts, first, stream)
                if time >= self.end:
                    return
                if time >= self.start:
                    yield frame
            if number < stream.frames:
                notes.add(FEWER)
            if time + ROUNDED < self.end < math.inf:
                notes.add(BEYOND)

    def _packets(self) -> int:
        """The number of packets in this part: without decoding, a good guess at that of frames."""
        with self._opened() as (container, stream):
            packets = (each for each in _demuxed(container, stream, set()) if each is not None and each.size)
            times = [(each.dts or 0) if each.pts is None else each.pts for each in packets if not each.is_discard]
            first = min(times, default=0)
            return sum(self.start <= self._seconds(each, first, stream) < self.end for each in times)

    def _seconds(self, pts: int | None, first: int | None, stream: VideoStream) -> float:
        """Seconds since the first frame; of no meaning where all of a video is read."""
        if (self.start, self.end) == WHOLE:
            return 0
        if pts is None or first is None or stream.time_base is None:
            raise UserError(f"{shown(self.path)}: its frames have no timestamps, so no part of it can be taken")
        return float((pts - first) * stream.time_base)

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """The file, and its first video stream that is no cover of a piece of music."""
        import av
        from av.stream import Disposition

        # A file that is opened here needs no protocol of FFmpeg: so none that says it is a playlist leads elsewhere.
        options = {"protocol_whitelist": "none"}
        with self.path.open("rb") as file:
            try:
                container = av.open(file, "r", options=options, metadata_errors="replace")
            except (av.error.FFmpegError, OSError) as error:
                raise UserError(f"{shown(self.path)}: is not a video that can be read ({error.strerror})") from error
            with container:
                streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
                if not streams:
                    raise UserError(f"{shown(self.path)}: holds no video stream")
                stream = streams[0]
                if stream.codec_context is None:
                    raise UserError(f"{shown(self.path)}: is of a codec that FFmpeg cannot decode here")
                stream.codec_context.thread_count = 1  # packing decodes many videos at a time
                yield container, stream


def _decoded(container: InputContainer, stream: VideoStream, notes: set[str]) -> Iterator[VideoFrame]:
    """All frames, also those that the decoder holds back until its end."""
    from av.error import FFmpegError

    for packet in _demuxed(container, stream, notes):
        try:
            frames = stream.decode(packet)
        except FFmpegError:  # what follows may be sound
            notes.add(DAMAGED)
            continue
        if any(frame.is_corrupt for frame in frames):
            notes.add(DAMAGED)
        yield from frames


def _demuxed(container: InputContainer, stream: VideoStream, notes: set[str]) -> Iterator[Any]:
    """Packets, and then None or an empty one, at which the decoder gives what it has held back."""
    from av.error import FFmpegError

    try:
        yield from container.demux(stream)
    except FFmpegError:  # cut short
        notes.add(DAMAGED)
        yield None


def _take(frames: Iterable[VideoFrame], indices: np.ndarray, convert: Convert) -> tuple[dict[int, np.ndarray], int]:
    """Some frames by their index, and how many there are."""
    wanted, taken, count = set(indices.tolist()), {}, 0
    for count, frame in enumerate(frames, 1):
        if count - 1 in wanted:
            taken[count - 1] = convert(_upright(frame))
    return taken, count


def _upright(frame: VideoFrame) -> Image.Image:
    """A frame in RGB, turned as its display matrix says, which FFmpeg's decoders do not do."""
    import numpy as np
    from PIL import Image

    pixels = frame.to_ndarray(format="rgb24", threads=1)  # as many as decode are at work
    turned = frame.rotation if abs(frame.rotation) <= 360 else 0  # a matrix of zeros has no angle
    return Image.fromarray(np.rot90(pixels, round(turned / 90)))
