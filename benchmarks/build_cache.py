"""Building a cache of augmented views, against the bare forward pass and against one image and file at a time.

    python -m benchmarks.build_cache [--rounds 3]

The bare forward pass takes float pictures that are in memory already, in batches of the same size, and throws
its results away: once with the teacher in torch's own memory format, once in channels_last, as our networks are.
One at a time: a float32 .npy file for each picture and level, as the authors of MLFD store them, in torch's own
memory format, too. L1 and L2 of every picture are taken, from crops, rotations and contrast drawn anew for each view.
"""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from kd.data.options import Augmentation, SplitOptions
from kd.data.packed import open_split, read_info
from kd.data.views import Views, to_float
from kd.embeddings.options import CacheOptions
from kd.jobs.job import Job
from kd.jobs.run import Context, run_job
from kd.models.network import Network, freeze
from kd.models.spec import ModelSpec
from kd.models.weights import load_network, new_network, save_network
from kd.stages import cache_embeddings
from tests.conftest import pack_digits

SHAKE = Augmentation(crop=(0.6, 1.0), rotation=15, flip=0.5, contrast=0.3)
LEVELS = ("L1", "L2")
TRAIN, OTHERS = 1500, 100
SINGLE = 200  # pictures that are done one at a time
CASES = {"resnet18 at 64 px": ("resnet18", 64, 6), "test_resnet at 32 px": ("test_resnet", 32, 20)}  # and views


def prepare(folder: Path, architecture: str, size: int) -> None:
    """A packed dataset and a teacher."""
    for name in ("dataset", "teacher"):
        (folder / name).mkdir()
    splits = SplitOptions(train=TRAIN, val=OTHERS, test=OTHERS)
    pack_digits(folder / "dataset", "digits", splits, (size, size), channels=3)
    info = read_info(folder / "dataset")
    model = ModelSpec(architecture=architecture, latent_dim=128)
    save_network(new_network(model, [info], statistics=info), folder / "teacher")


def rate(count: int, work: Callable[[], object]) -> float:
    """Images per second."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def build(folder: Path, views: int) -> float:
    """Our stage in its frame: lock, checksums and manifest, too."""
    spec = cache_embeddings.Spec(
        dataset="digits", arrays=list(LEVELS), views=views, augmentation=SHAKE, cache=CacheOptions(), seed=0
    )
    upstream = {name: folder / name for name in ("teacher", "dataset")}
    with tempfile.TemporaryDirectory(dir=folder) as store:
        job = Job.make(Path(store), "cache_embeddings", "x", spec=spec.model_dump(mode="json"), code={}, upstream={})

        def work() -> None:
            run_job(job, spec, lambda context: cache_embeddings.build(Context(spec, upstream, context.directory)))

        return rate(TRAIN * views + 2 * OTHERS, work)


def forward(network: Network, images: torch.Tensor) -> float:
    """Batches of pictures that are in memory."""

    def work() -> None:
        with torch.inference_mode():
            for start in range(0, len(images), cache_embeddings.BATCH):
                network(images[start : start + cache_embeddings.BATCH], LEVELS)

    return rate(len(images), work)


def one_at_a_time(network: Network, folder: Path) -> float:
    """A batch of one and a .npy file per level, for each picture."""
    split = open_split(folder / "dataset", "train")
    pixels = split.images.read(slice(0, SINGLE))
    views = Views("shared", split.info, 0, SHAKE)

    def work(store: str) -> None:
        with torch.inference_mode():
            for row in range(SINGLE):
                image = views(torch.from_numpy(pixels[row : row + 1]), split.ids[row : row + 1], 0)
                features = network(image, LEVELS)
                for level in LEVELS:
                    np.save(f"{store}/{level}_{row}.npy", features.at(level)[0].numpy())

    with tempfile.TemporaryDirectory(dir=folder) as store:
        return rate(SINGLE, lambda: work(store))


def main() -> None:
    """Print the ratios of each case: medians over interleaved rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    rounds = parser.parse_args().rounds
    for case, (architecture, size, views) in CASES.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, architecture, size)
            network = freeze(load_network(folder / "teacher"))
            plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
            images = to_float(torch.from_numpy(open_split(folder / "dataset", "train").images.read())).contiguous()
            build(folder, 1)  # warms up
            references: dict[str, Callable[[], float]] = {
                "bare forward pass": functools.partial(forward, plain, images),
                "bare forward pass in channels_last": functools.partial(forward, network, images),
                "one image and file at a time": functools.partial(one_at_a_time, plain, folder),
            }
            ratios: dict[str, list[float]] = {reference: [] for reference in references}
            for _ in range(rounds):
                ours = build(folder, views)
                print(f"{case}: build: {ours:.0f} images/s")
                for reference, run in references.items():
                    theirs = run()
                    ratios[reference].append(ours / theirs)
                    print(f"{case}: {reference}: {theirs:.0f} images/s", flush=True)
            for reference, each in ratios.items():
                print(f"{case}: build / {reference}: {statistics.median(each):.2f}")


if __name__ == "__main__":
    main()
