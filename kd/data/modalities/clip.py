"""Clips of videos: some frames of each, (F, H, W, C) uint8 in the store, (T, 3, h, w) float32 in 0..1 for backbones.

A video is cut into `segments` of one length, and a view shows one frame of each (Wang et al., TSN, ECCV 2016). Stored
are, of each segment in turn, the frames that training may draw, and then the frames of each test clip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge
from pydantic import model_validator

from kd.data.modalities.base import Shape, View
from kd.data.modalities.image import Pixels
from kd.data.sources.videos import VIDEOS

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from kd.common.streams import Audience
    from kd.data.options import Augmentation
    from kd.data.video import Video

FILES = VIDEOS
Count = Annotated[int, Ge(1)]

SHORT = "videos of fewer frames than segments, of which some frames are repeated"


class Samples(Pixels):
    """Options of clips: what is stored and seen of a video."""

    segments: Count = 8
    """Parts of one length that a video is cut into, which is the number of frames in a view."""
    candidates: Count = 4
    """Frames of each segment that are stored to train on, evenly over it. Which of them a view shows is drawn for each
    segment, as all of a view is; without augmentation it is the middle of the segment."""
    test_clips: Count = 1
    """Times that val and test look at each segment: first its middle, then evenly spread over it. Predictions are means
    over them."""
    test_crops: Literal[1, 3] = 1
    """1: val and test see whole frames, brought to `image_size`; 3: they see each frame three times, left or upper end,
    middle, and right or lower end, cut to `image_size` from a larger `store_size`."""

    @model_validator(mode="after")
    def _crops_fit(self) -> Samples:
        larger = [stored - seen for stored, seen in zip(self.stored, self.size, strict=True)]
        if self.test_crops > 1 and (min(larger) < 0 or max(larger) == 0):
            raise ValueError(
                f"test_crops: {self.test_crops} takes parts of image_size {list(self.size)} from frames of store_size"
                f" {list(self.stored)}; expected a larger store_size"
            )
        return self

    def shape(self, channels: int) -> Shape:
        """(F, H, W, C)."""
        return (self.segments * (self.candidates + self.test_clips), *self.stored, channels)

    def indices(self, frames: int) -> np.ndarray:
        """Frames that are stored of a video of so many: (F,) int64."""
        import numpy as np

        train = training_candidates(frames, self.segments, self.candidates)
        return np.concatenate([train.ravel(), evaluation_indices(frames, self.segments, self.test_clips).ravel()])

    def decode(self, opened: Video, out: np.ndarray) -> tuple[str, ...]:
        """From a video; each frame is brought to its size as an image is."""
        out[...], count, notes = opened.read(self.indices, lambda image: self.pixels(image, out.shape[-1]))
        return (*notes, SHORT) if count < self.segments else notes


def training_candidates(frames: int, segments: int, candidates: int) -> np.ndarray:
    """Frames that training may show of each segment, (segments, candidates) int64.

    With N frames and K segments, segment k has the `step` = N // K frames from k * step on, and training draws one of
    them; it never sees those behind K * step. If N < K, it is the frame round(k * N / K) mod N, halves to even. That is
    the rule of SampleFrames in MMAction2, for clips of one frame. Here, C candidates stand for the frames of a segment:
    c has the offset floor((2c + 1) * step / 2C). With C = step, drawing one of them is the rule itself.
    """
    import numpy as np

    segment = np.arange(segments)[:, None]
    step = frames // segments
    if step == 0:
        return np.tile(np.around(segment * frames / segments).astype(np.int64) % frames, (1, candidates))
    return segment * step + (2 * np.arange(candidates) + 1) * step // (2 * candidates)


def evaluation_indices(frames: int, segments: int, clips: int) -> np.ndarray:
    """Frames that val and test show, (clips, segments) int64, as SampleFrames of MMAction2 takes them for tests.

    The frame of segment k is floor((k + f) * N / K), with f = 1/2, its middle, for the first clip. Of V clips, clip v
    has f = 1/2 + v/V mod 1: for two clips the middles and then the beginnings, as its `twice_sample` does.
    """
    import numpy as np

    place = (clips + 2 * np.arange(clips)[:, None]) % (2 * clips)  # in parts of a segment
    return (2 * clips * np.arange(segments) + place) * frames // (2 * clips * segments)


def plain(samples: Samples, stored: Tensor) -> Tensor:
    """(B, F, H, W, C) uint8 to the frames of tests, (B, T, 3, h, w) float32 in 0..1.

    T is segments * test_clips * test_crops, of which segments change fastest and crops slowest.
    """
    import torch

    from kd.data.views import resize_images, to_float

    frames = stored[:, samples.segments * samples.candidates :]
    pixels = to_float(frames.flatten(0, 1))
    if samples.test_crops == 1:
        seen = [resize_images(pixels, samples.size)]
    else:
        (height, width), last = samples.size, samples.test_crops - 1
        more = [stored - seen for stored, seen in zip(samples.stored, samples.size, strict=True)]
        places = [[part * length // last for length in more] for part in range(samples.test_crops)]
        seen = [pixels[..., top : top + height, left : left + width] for top, left in places]
    return torch.cat([each.reshape(*frames.shape[:2], 3, *samples.size) for each in seen], dim=1)


def views(samples: Samples, stream: Audience, dataset: str, seed: int, augmentation: Augmentation | None) -> View:
    """Views of a batch: (B, segments, 3, h, w), of each segment one frame that is drawn, and all alike augmented.

    Without augmentation every view is the first clip of tests.
    """
    import numpy as np
    import torch

    from kd.data.draws import draw
    from kd.data.views import Views

    segments, candidates = samples.segments, samples.candidates
    spatial = Views(stream, dataset, seed, augmentation, samples.size)

    def view(stored: Tensor, ids: np.ndarray, number: int) -> Tensor:
        if augmentation is None:
            places = np.tile(np.arange(segments) + segments * candidates, (len(ids), 1))
        else:
            drawn = draw(stream, seed, dataset, number, ids, frames=segments)
            places = np.arange(segments) * candidates + (drawn.astype(np.float64) * candidates).astype(np.int64)
        rows = torch.arange(len(ids), device=stored.device)[:, None]
        frames = stored[rows, torch.from_numpy(places).to(stored.device)].flatten(0, 1)
        return spatial(frames, ids.repeat(segments), number).reshape(len(ids), segments, 3, *samples.size)

    return view
