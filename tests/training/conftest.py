"""Two teachers, and the embeddings of each of them on both datasets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kd.jobs.run import Context
from kd.models.spec import LEVELS
from kd.stages import cache_embeddings
from kd.training.supervised import train_network
from tests.training.chain import MODEL, OTHER_MODEL, RECIPE, embedding_spec, folder


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory, dataset: Path, other_dataset: Path) -> dict[str, Path]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("teachers")
    train_network(folder(root / "digits"), [dataset], MODEL, RECIPE, 0)
    train_network(folder(root / "other"), [other_dataset], OTHER_MODEL, RECIPE, 0)
    return {"digits": root / "digits", "other": root / "other"}


@pytest.fixture(scope="session")
def stores(
    tmp_path_factory: pytest.TempPathFactory, teachers: dict[str, Path], dataset: Path, other_dataset: Path
) -> dict[tuple[str, str], Path]:
    """Embeddings of each teacher on each dataset, at all levels, and logits of its own."""
    found = {}
    for teacher, path in teachers.items():
        for name, data in (("digits", dataset), ("other", other_dataset)):
            found[teacher, name] = tmp_path_factory.mktemp("store")
            spec = embedding_spec(("logits", *LEVELS) if teacher == name else LEVELS, dataset=name)
            cache_embeddings.build(Context(spec, {"teacher": path, "dataset": data}, found[teacher, name]))
    return found
