"""Peak memory of building a cache and of training from it, streamed, for 1 x and 8 x the data.

    python -m benchmarks.memory [--rows 4000]

Every measurement is a process of its own whose budget for data that stay in memory is 0, so that everything is
streamed: pictures of 64 px, maps of 512 x 4 x 4 in float16. What is printed is the largest resident set.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROWS = 4000
SIZE = 64
CLASSES = 10
SPLITS = (0, 1, 2)


def make(folder: Path, rows: int) -> None:
    """A packed dataset of random pictures and a teacher."""
    import numpy as np
    from PIL import Image

    from kd.data.packed import read_info
    from kd.data.packing import pack
    from kd.data.sources.base import Sample
    from kd.models.spec import ModelSpec
    from kd.models.weights import new_network, save_network

    picture = Image.effect_noise((SIZE, SIZE), 64)
    samples = [Sample(f"{number:07d}", (str(number % CLASSES),), picture.copy) for number in range(rows + 40)]
    codes = np.array([0] * rows + [1] * 20 + [2] * 20)
    classes = [str(label) for label in range(CLASSES)]
    for name in ("dataset", "teacher"):
        (folder / name).mkdir()
    pack(
        folder / "dataset",
        "noise",
        samples,
        codes,
        classes,
        task="single_label",
        image_size=(SIZE, SIZE),
        resize="squash",
        channels=3,
    )
    info = read_info(folder / "dataset")
    model = ModelSpec(architecture="resnet18", kwargs={"output_stride": 16})
    save_network(new_network(model, [info], statistics=info), folder / "teacher")


def build(folder: Path) -> None:
    """The cache."""
    from kd.embeddings.options import CacheOptions
    from kd.jobs.run import Context
    from kd.stages import cache_embeddings

    (folder / "store").mkdir()
    spec = cache_embeddings.Spec(
        dataset="digits", arrays=["logits", "L2"], views=1, augmentation=None, cache=CacheOptions(), seed=0
    )
    upstream = {name: folder / name for name in ("teacher", "dataset")}
    cache_embeddings.build(Context(spec, upstream, folder / "store"))


def train(folder: Path) -> None:
    """Two epochs of a small student from the cached maps of one teacher."""
    from kd.distillers.mlfd import Method
    from kd.models.spec import ModelSpec
    from kd.training.recipe import Recipe
    from kd.training.stored import StoredTargets
    from kd.training.students import distill_student

    (folder / "student").mkdir()
    method = Method()
    names = method.needs("L2").names()
    distill_student(
        folder / "student",
        folder / "dataset",
        lambda split, fabric, memory: StoredTargets(folder / "store", split, names, 1, fabric, memory),
        model=ModelSpec(architecture="test_resnet"),
        method=method,
        names=names,
        views=1,
        recipe=Recipe(lr=1e-3, epochs=2, batch_size=64),
        seed=0,
    )


STEPS = ("make", "build", "train")


def measure(step: str, folder: Path, rows: int) -> float:
    """Peak resident MiB of one step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--step", step, "--folder", str(folder), "--rows", str(rows)]
    environment = os.environ | {"KD_RAM_GIB": "0", "KD_DEVICE_GIB": "0"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return float(done.stdout)


def main() -> None:
    """Print peaks for both sizes and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"training pictures at 1 x (default: {ROWS})")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        if options.step == "make":
            make(options.folder, options.rows)
        elif options.step == "build":
            build(options.folder)
        else:
            train(options.folder)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    peaks: dict[str, list[float]] = {step: [] for step in STEPS}
    for factor in (1, 8):
        with tempfile.TemporaryDirectory() as folder:
            for step, measured in peaks.items():
                measured.append(measure(step, Path(folder), factor * options.rows))
                print(f"{factor} x {options.rows} pictures, {step}: {measured[-1]:.0f} MiB", flush=True)
    for step in ("build", "train"):
        print(f"{step}: 8 x / 1 x the data: {peaks[step][1] / peaks[step][0]:.2f}")


if __name__ == "__main__":
    main()
