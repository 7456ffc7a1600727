"""What training costs: students from the cache and with live teachers, and joint teachers.

    python -m benchmarks.training_cost [--rounds 3]

Seconds of an epoch as the training loop records them, with its validation; the first epoch, which also reads
from disk what then stays in memory, is left out. Students: resnet18 at 64 px, three teachers of the same kind,
a joint teacher fused at L2 with adaptors of 4,096 channels. Joint teachers: on the demo's dataset mnist5k with
its networks and recipes, one epoch as a part of one whole individual training of the demo (40 epochs).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from kd.config import load_config
from kd.data.options import SplitOptions
from kd.data.packed import read_info
from kd.distillers.mlfd import Method
from kd.embeddings.options import CacheOptions
from kd.jobs.run import Context
from kd.models.joint import JointTeacher
from kd.models.spec import Level, ModelSpec
from kd.models.weights import new_network, save_network
from kd.stages import cache_embeddings, cache_targets
from kd.training import live
from kd.training.fusion import cached_embeddings, joint_config, save_joint_teacher, train_joint_teacher
from kd.training.recipe import Recipe
from kd.training.stored import StoredTargets
from kd.training.students import MakeSource, distill_student
from kd.training.supervised import train_network
from tests.conftest import pack_digits

MLFD = Method()
NAMES = MLFD.needs("L2").names()
DEMO = load_config(yaml.safe_load((Path(__file__).parent.parent / "config/config.yaml").read_text()))
TEACHERS = ("a", "b", "c")
VIEWS = 2
WIDTH = 4096


def new(path: Path) -> Path:
    """An empty folder."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def make_dataset(folder: Path, size: int, train: int) -> Path:
    """Digits as RGB."""
    return pack_digits(new(folder), "digits", SplitOptions(train=train, val=40, test=40), (size, size), channels=3)


def make_teacher(folder: Path, dataset: Path, model: ModelSpec) -> Path:
    """Untrained: time does not depend on the weights."""
    info = read_info(dataset)
    save_network(new_network(model, [info], statistics=info), new(folder))
    return folder


def cache(folder: Path, teacher: Path, dataset: Path, levels: list[Level], recipe: Recipe) -> Path:
    """Embeddings of a dataset by a teacher."""
    spec = cache_embeddings.Spec(
        dataset="digits", arrays=levels, views=VIEWS, augmentation=recipe.augmentation, cache=CacheOptions(), seed=0
    )
    cache_embeddings.build(Context(spec, {"teacher": teacher, "dataset": dataset}, new(folder)))
    return folder


def seconds_per_epoch(folder: Path) -> float:
    """Median of all epochs but the first."""
    return float(pd.read_csv(folder / "history.csv")["seconds"][1:].median())


class Students:
    """A dataset, three teachers and a wide joint teacher, ready to distil from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.recipe = Recipe(lr=1e-3, epochs=4, batch_size=64, augmentation=DEMO.augmentations["shake"])
        self.model = ModelSpec(architecture="resnet18", latent_dim=512)
        self.dataset = make_dataset(root / "dataset", 64, 512)
        self.teachers = [make_teacher(root / name, self.dataset, self.model) for name in TEACHERS]
        info = read_info(self.dataset)
        shapes: list[tuple[int, ...]] = [(512, 2, 2)] * len(TEACHERS)
        joint = JointTeacher(joint_config("L2", shapes, [info], self.model, width=WIDTH, dropout=0.5))
        save_joint_teacher(joint, new(root / "joint"))
        upstream = {
            f"embeddings:{name}": cache(root / f"on-{name}", teacher, self.dataset, ["L2"], self.recipe)
            for name, teacher in zip(TEACHERS, self.teachers, strict=True)
        }
        spec = cache_targets.Spec(
            dataset="digits",
            level="L2",
            teachers=list(TEACHERS),
            arrays=list(NAMES),
            views=VIEWS,
            augmentation=self.recipe.augmentation,
            cache=CacheOptions(),
            seed=0,
        )
        upstream |= {"dataset": self.dataset, "joint_teacher": root / "joint"}
        cache_targets.build(Context(spec, upstream, new(root / "targets")))

    def plain(self, folder: Path) -> float:
        """Supervised training of the same network."""
        train_network(new(folder), [self.dataset], self.model, self.recipe, 0)
        return seconds_per_epoch(folder)

    def distilled(self, folder: Path, *, stored: bool) -> float:
        """A student, from stored targets or from live teachers."""

        def make(split: Any, fabric: Any, memory: Any) -> Any:
            if stored:
                return StoredTargets(self.root / "targets", split, NAMES, VIEWS, fabric, memory)
            teachers = live.LiveTeachers(self.teachers, ("L2",), "digits", CacheOptions(), fabric)
            return live.LiveTargets(teachers, NAMES, self.root / "joint", fabric)

        make_source: MakeSource = make
        distill_student(
            new(folder),
            self.dataset,
            make_source,
            model=self.model,
            method=MLFD,
            names=NAMES,
            views=VIEWS if stored else None,
            recipe=self.recipe,
            seed=0,
        )
        return seconds_per_epoch(folder)


def students(root: Path, rounds: int) -> None:
    """Print the cost of students in units of plain training."""
    case = Students(root)
    ratios: dict[str, list[float]] = {"stored targets": [], "live teachers": []}
    for number in range(rounds):
        plain = case.plain(root / f"plain{number}")
        for kind, measured in ratios.items():
            measured.append(case.distilled(root / f"{kind}{number}", stored=kind == "stored targets") / plain)
        print(", ".join(f"{kind} {measured[-1]:.2f}" for kind, measured in ratios.items()), flush=True)
    for kind, measured in ratios.items():
        print(f"student with {kind} / plain training: {statistics.median(measured):.2f} (median)")


def joint_teachers(root: Path, rounds: int) -> None:
    """Print the cost of an epoch of joint teachers in units of one individual training of the demo."""
    dataset = make_dataset(root / "demo", 32, 150)
    individual, recipe = DEMO.recipe("network"), DEMO.recipe("fusion")
    models = [DEMO.models[teacher.model] for teacher in DEMO.teachers.values()]
    stores = []
    for number, model in enumerate(models):
        teacher = make_teacher(root / f"teacher{number}", dataset, model)
        stores.append(cache(root / f"store{number}", teacher, dataset, ["L1", "L2"], recipe))
    shares: dict[str, list[float]] = {name: [] for name in DEMO.joint_teachers}
    for number in range(rounds):
        train_network(new(root / f"individual{number}"), [dataset], models[1], individual, 0)
        whole = pd.read_csv(root / f"individual{number}/history.csv")["seconds"].sum()
        for name, measured in shares.items():
            options, folder = DEMO.joint_teachers[name], new(root / f"{name}{number}")
            train_joint_teacher(
                folder,
                [dataset],
                cached_embeddings([stores], options.level, VIEWS),
                level=options.level,
                student=models[1],
                width=options.width,
                dropout=options.dropout,
                label_encoder=options.label_encoder,
                recipe=recipe,
                seed=0,
            )
            measured.append(seconds_per_epoch(folder) / whole)
    for name, measured in shares.items():
        print(f"one epoch of {name} / one individual training: {statistics.median(measured):.4f} (median)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        joint_teachers(Path(folder) / "joint", rounds)
        students(Path(folder) / "students", rounds)


if __name__ == "__main__":
    main()
