"""Packing: decode, resize and store the samples of a source, and say what had to be changed."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from kd.artefacts.files import replacing
from kd.common.errors import UserError
from kd.data.modalities.base import Modality
from kd.data.options import Task
from kd.data.packed import SAMPLES, STORE, DatasetInfo, attributes_of
from kd.data.provenance import begun_origin
from kd.data.sources.base import SEPARATOR, SPLITS, Sample
from kd.data.storage import RowArray, create_group, create_rows, spans, write_column
from kd.jobs.progress import Progress

T = TypeVar("T")
Changes = tuple[str, ...]

log = logging.getLogger("kd")

CHANGES = ".changes.jsonl"
NAMED = 5  # classes, in a note
REPEATED = "samples of val or test that another split holds, too, pixel by pixel"


def pack(
    directory: Path,
    name: str,
    samples: list[Sample],
    codes: np.ndarray,
    classes: list[str],
    *,
    task: Task,
    modality: Modality,
    channels: int,
) -> tuple[DatasetInfo, dict[str, int]]:
    """Decode, resize and store samples; chunks that an interrupted attempt of the same job stored are kept.

    Args:
        directory: where the dataset goes. Outside the frame of a job, a dataset that is there is replaced.
        name: of the dataset.
        samples: in the order of their ids in the source.
        codes: (len(samples),) index into SPLITS; negative: leave out.
        classes: sorted class names.
        task: what the labels are.
        modality: how they are stored.
        channels: 1: all images are grey; 3: they are stored as RGB.

    Returns:
        What describes the dataset; and what decoding changed, and what the images have that they should not, in
        words, and how often.

    Raises:
        UserError: an image cannot be decoded, or does not have as many labels as the task wants.
    """
    labels = encode_labels(samples, classes, task)
    if begun_origin(directory) is None:  # then nothing says of what images the chunks there are
        shutil.rmtree(directory / STORE, ignore_errors=True)
    root = create_group(directory / STORE)
    # In the same random order whenever the same samples are packed.
    orders = [np.random.Generator(np.random.Philox(code)) for code in range(len(SPLITS))]
    members = [order.permutation(np.flatnonzero(codes == code)) for code, order in enumerate(orders)]
    chosen = [[samples[index] for index in rows] for rows in members]
    starts = np.cumsum([0, *map(len, members)])
    packing = _Packing(modality, channels, _Changes(directory / STORE / CHANGES), images=int(starts[-1]))
    for split, rows, split_samples, first in zip(SPLITS, members, chosen, starts[:-1], strict=True):
        group = root.require_group(split)
        write_column(group, "labels", labels[rows])
        write_column(group, "ids", np.arange(first, first + len(rows)))
        packing.fill(create_rows(group, "images", len(rows), modality.shape(channels), "uint8"), split, split_samples)
    sizes = {split: len(rows) for split, rows in zip(SPLITS, members, strict=True)}
    statistics, most = _mean_std(packing.histogram), most_labels(samples)
    info = DatasetInfo(name, tuple(classes), modality, *statistics, sizes, task, most)
    root.attrs.update(attributes_of(info))
    _write_samples(directory / SAMPLES, chosen)
    return info, packing.changes.total() | _repeated(packing.digests, chosen)


class _Changes:
    """Notes of what decoding changed, by split and first row of a chunk.

    Kept in a hidden file beside the chunks, and written ahead of each: a job that goes on after it was killed does not
    decode again what is stored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: dict[tuple[str, int], dict[str, int]] = {}
        lines = path.read_text().splitlines() if path.is_file() else []
        for line in lines:
            with suppress(ValueError):  # cut short, when its chunk was not there yet
                split, start, counts = json.loads(line)
                self._counts[split, start] = counts

    def add(self, split: str, start: int, counts: dict[str, int]) -> None:
        self._counts[split, start] = counts
        if counts:
            with self._path.open("a") as stream:
                stream.write(f"\n{json.dumps([split, start, counts])}\n")

    def total(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for counts in self._counts.values():
            total.update(counts)
        return dict(sorted(total.items()))


class _Packing:
    """Brings the images of one split after the other into their arrays.

    Attributes:
        histogram: (C, 256) int64, how often each value occurs in each channel of the training images.
        digests: of the pixels of all images, by split.
    """

    def __init__(self, modality: Modality, channels: int, changes: _Changes, *, images: int) -> None:
        self.modality, self.changes = modality, changes
        self.progress = Progress(images, "sample")
        self.histogram = np.zeros((channels, 256), dtype=np.int64)
        self.digests: dict[str, list[bytes]] = {split: [] for split in SPLITS}

    def fill(self, images: RowArray, split: str, samples: list[Sample]) -> None:
        """Store all images of a split, chunk by chunk."""
        pool = ThreadPoolExecutor(decoders())
        try:
            chunks = ((rows, *self._begin(pool, images, rows, samples)) for rows in spans(images.rows, images.chunk))
            for rows, pixels, decoding in _ahead(chunks, max(1, (decoders() - 1) // images.chunk)):
                if decoding:
                    counts: Counter[str] = Counter()
                    for each in decoding:
                        counts.update(each.result())
                        self.progress.step()
                    self.changes.add(split, rows.start, dict(counts))
                    images.write(rows, pixels)
                else:
                    self.progress.step(len(pixels))
                self.digests[split] += [hashlib.sha256(row.data).digest() for row in pixels]
                if split == "train":
                    self.histogram += _histogram(pixels)
        finally:
            pool.shutdown(cancel_futures=True)

    def _begin(
        self, pool: ThreadPoolExecutor, images: RowArray, rows: slice, samples: list[Sample]
    ) -> tuple[np.ndarray, list[Future[Changes]]]:
        """The pixels of a chunk: what is stored, or else an array that is being filled."""
        try:
            return images.read(rows), []
        except UserError:  # not there yet
            pixels = np.empty((rows.stop - rows.start, *images.row_shape), np.uint8)
            jobs = zip(samples[rows], pixels, strict=True)
            return pixels, [pool.submit(self._decode, sample, out) for sample, out in jobs]

    def _decode(self, sample: Sample, out: np.ndarray) -> Changes:
        """Fill one row of the store with a sample."""
        return self.modality.decode(sample.open(), out)


def _ahead(items: Iterator[T], count: int) -> Iterator[T]:
    """The same items, each after so many further ones have begun: samples are decoded while others are stored."""
    begun = deque(islice(items, count))
    for item in items:
        begun.append(item)
        yield begun.popleft()
    yield from begun


def decoders() -> int:
    """Threads that decode: the CPU cores that this job may use, as its rule or else the system says."""
    there, wanted = len(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS", "")
    return min(there, max(1, int(wanted))) if wanted.isdecimal() else there


def _repeated(digests: dict[str, list[bytes]], splits: list[list[Sample]]) -> dict[str, int]:
    """How many samples of val and test an earlier split holds, too, by digests of the pixels of all samples."""
    seen: dict[bytes, str] = {}
    pairs = []
    for (split, own), samples in zip(digests.items(), splits, strict=True):
        names = [f"{sample.id} ({split})" for sample in samples]
        pairs += [f"{seen[digest]} and {name}" for name, digest in zip(names, own, strict=True) if digest in seen]
        seen = dict(zip(own, names, strict=True)) | seen
    if not pairs:
        return {}
    log.warning("%s: %d, such as %s", REPEATED, len(pairs), pairs[0])
    return {REPEATED: len(pairs)}


def _histogram(pixels: np.ndarray) -> np.ndarray:
    """How often each value occurs in each channel of (N, ..., W, C) uint8: (C, 256) int64."""
    rows = pixels.reshape(-1, *pixels.shape[-2:])  # images and frames below one another
    image = Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else rows)
    return np.array(image.histogram(), dtype=np.int64).reshape(-1, 256)


def _mean_std(histogram: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per RGB channel, in units of 0..1; a grey dataset has three equal ones."""
    values, count = np.arange(256) / 255, histogram.sum(axis=1)
    mean = histogram @ values / count
    std = np.sqrt(np.maximum(histogram @ values**2 / count - mean**2, 1e-8))
    repeat = 3 // len(mean)
    return tuple(np.tile(mean, repeat).tolist()), tuple(np.tile(std, repeat).tolist())


def most_labels(samples: list[Sample]) -> int:
    """The largest number of labels of a sample, 1 at least."""
    return max(1, *(len(sample.labels) for sample in samples))


def _write_samples(path: Path, splits: list[list[Sample]]) -> None:
    """Say in CSV which sample each id is; samples of train, val and test in the order of their ids."""
    rows = [(sample, split) for split, samples in zip(SPLITS, splits, strict=True) for sample in samples]
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "sample", "label", "split"])
        for number, (sample, split) in enumerate(rows):
            writer.writerow([number, sample.id, SEPARATOR.join(sample.labels), split])


def encode_labels(samples: list[Sample], classes: list[str], task: Task) -> np.ndarray:
    """Labels of N samples, all of them among the sorted class names, as numbers.

    Returns:
        (N,) int64 indices into `classes`, or for `multi_label` (N, classes) uint8 of 0 and 1.

    Raises:
        UserError: a sample does not have exactly one label, and the task is `single_label`.
    """
    number = {label: index for index, label in enumerate(classes)}
    if task == "multi_label":
        encoded = np.zeros((len(samples), len(classes)), dtype=np.uint8)
        for row, sample in enumerate(samples):
            encoded[row, [number[label] for label in sample.labels]] = 1
        return encoded
    for sample in samples:
        if len(sample.labels) != 1:
            raise UserError(f"{sample.id}: labels are {list(sample.labels)}, expected exactly one (single_label)")
    return np.array([number[sample.labels[0]] for sample in samples], dtype=np.int64)


def check_classes(labels: np.ndarray, codes: np.ndarray, classes: list[str], *, listed: bool) -> dict[str, int]:
    """Refuse datasets that cannot be learned from.

    Args:
        labels: of all samples, as `encode_labels` gives them.
        codes: (N,) index into SPLITS; negative: left out.
        classes: sorted class names.
        listed: the source came with this list of classes. In a multi-label dataset these may then lack training
            images.

    Returns:
        Which classes no image of a split shows, in words, and how many they are.

    Raises:
        UserError: fewer than two classes, a class without training images, an empty split, or a name that
            samples.csv cannot hold.
    """
    if len(classes) < 2:
        raise UserError(f"expected at least two classes, found {classes}")
    multi = labels.ndim == 2
    unwritable = [label for label in classes if multi and SEPARATOR in label]
    if unwritable:
        raise UserError(f"class {unwritable[0]!r} holds {SEPARATOR!r}, which separates labels in {SAMPLES}; rename it")
    notes = {}
    for code, split in enumerate(SPLITS):
        members = labels[codes == code]
        if not len(members):
            raise UserError(
                f"split {split} has no samples; say a size for split.{split}, or smaller ones for the others"
            )
        shown = members.sum(axis=0, dtype=np.int64) if multi else np.bincount(members, minlength=len(classes))
        missing = [label for label, count in zip(classes, shown, strict=True) if count == 0]
        if missing and split == "train" and not (multi and listed):
            raise UserError(f"classes without a training sample: {missing[:5]}; raise split.train or give them some")
        if missing:
            more = ", …" if len(missing) > NAMED else ""
            notes[f"classes without a sample in {split} ({', '.join(missing[:NAMED])}{more})"] = len(missing)
    return notes
