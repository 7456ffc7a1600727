"""A page on what is on disk, from the docstrings of the code that writes it."""

from __future__ import annotations

import ast
import inspect

from docs.generate import ROOT
from docs.generate.options import table
from kd.artefacts import manifest
from kd.common.options import attribute_docstrings
from kd.data import storage

PARTS = (
    ("Zarr arrays", "kd/data/storage.py"),
    ("Packed datasets", "kd/data/packed.py"),
    ("Embeddings and targets", "kd/embeddings/store.py"),
    ("Weights", "kd/models/weights.py"),
    ("History of a training", "kd/training/loop.py"),
    ("Predictions", "kd/training/predictions.py"),
    ("Manifests", "kd/artefacts/manifest.py"),
)
"""Headings, and the modules that write what is below them."""
INTRODUCTION = f"""\
# On disk

What the workflow computes can be read without it: bare zarr, numpy and pandas will do. Stores are of format
{storage.FORMAT}, manifests of format {manifest.FORMAT}. Each section is what the module that writes it says of itself.

    results/<stage>/<name>/<key>/manifest.json    what made it: spec, upstream, code, versions; a checksum of each file
    results/experiments/<experiment>/index.csv    which directory is which
    results/prepare_dataset/.../images.zarr       a packed dataset; samples.csv beside it
    results/cache_embeddings/.../embeddings.zarr  what one teacher sees in one dataset
    results/cache_targets/.../embeddings.zarr     what one joint teacher makes of it
    results/train_*/..., distill_student/...      weights, history.csv, predictions-DATASET.npz

Files in a directory are only ever replaced, never written in place.
"""


def docstring_of(file: str) -> str:
    """The docstring of a module, which is not imported."""
    return inspect.cleandoc(ast.get_docstring(ast.parse((ROOT / file).read_text())) or "")


def page() -> str:
    """The page."""
    sections = [f"## {title}\n\nWritten by `{file}`.\n\n{docstring_of(file)}\n" for title, file in PARTS]
    rows = [(f"`{name}`", text) for name, text in attribute_docstrings(manifest.Manifest).items()]
    return "\n".join([INTRODUCTION, *sections, table(("field of a manifest", "what it says"), rows)])
