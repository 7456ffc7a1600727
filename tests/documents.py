"""The documents: their texts, and the configs, commands and pieces of Python in them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests.conftest import ROOT
from tests.data.layouts import CONTENT, Content, make_coco, make_csv, make_nus_wide, make_voc
from tests.data.official_layouts import MAKERS
from tests.data.video_layouts import VIDEO_MAKERS, touch
from tests.models.test_mmaction_checkpoints import write

PAGES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))
DOCUMENTS = ("README.md", *PAGES, "config/README.md", "config/sources.md", "config/mlfd/README.md")
CONFIGS = [path for path in sorted(ROOT.glob("config/**/*.yaml")) if path.parent.name != "sets"]  # which are parts
TEXTS = {name: (ROOT / name).read_text() for name in DOCUMENTS}
FENCE, MESSAGE = r"^```.*?^```$", r"``[^\n]*?``"  # messages of the program are quoted
PROSE = {name: re.sub(f"{FENCE}|{MESSAGE}", "", text, flags=re.MULTILINE | re.DOTALL) for name, text in TEXTS.items()}
BLOCKS = [block for text in PROSE.values() for block in re.findall(r"(?<=\n\n)((?:    .+\n)+)", text)]
BASE = "docs/own_data.md"
"""Of the configs on the pages, those that show a part take the rest from the first one here."""


def fenced(language: str, *names: str) -> list[str]:
    """Blocks of a language, in the order of the documents, of all or of some."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [block for name in names or DOCUMENTS for block in fence.findall(TEXTS[name])]


def execute(code: str, **given: Any) -> dict[str, Any]:
    """The names that a piece of Python leaves, of those that it is given and its own."""
    names = dict(given)
    exec(code, names)
    return names


def examples() -> list[dict[str, Any]]:
    """The configs in the documents, each made whole."""
    base: dict[str, Any] = yaml.safe_load(fenced("yaml", BASE)[0])
    parts = [yaml.safe_load(block) for block in fenced("yaml")]
    parts += [yaml.safe_load(block) for block in BLOCKS if re.fullmatch(r"\w+:", block.split()[0])]
    shared = {key: base[key] for key in ("recipes", "augmentations")}
    return [shared | part if "datasets" in part else base | part for part in parts]


def larger(content: Content, times: int) -> Content:
    """More images of the same labels, under numbers of their own."""
    return {
        split: [(f"{first + number:06d}", labels) for number, (_, labels) in enumerate(rows * times)]
        for first, (split, rows) in zip((100, 500), content.items(), strict=True)
    }


def folder_of_classes(root: Path) -> Path:
    """Twenty images of each of two classes."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(rng.integers(0, 255, (9, 11, 3), dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


def folder_of_videos(root: Path) -> Path:
    """Twenty files of each of two classes, which nothing opens ahead of a run."""
    touch(root, (f"{name}/{number}.mp4" for name in ("cat", "dog") for number in range(20)))
    return root


def single_labels(root: Path) -> Path:
    """A list of such images."""
    folder_of_classes(root)
    rows = [f"{name}/{number}.png,{name}" for name in ("cat", "dog") for number in range(20)]
    (root / "list.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    return root / "list.csv"


LAYOUTS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "image_folder": ("root", folder_of_classes),
    "csv_manifest": ("csv", single_labels),
    "csv_manifest multi_label": ("csv", lambda root: make_csv(root, larger(CONTENT, 12))),
    "video_folder": ("root", folder_of_videos),
    "voc": ("root", lambda root: make_voc(root, larger(CONTENT, 12))),
    "coco": ("root", lambda root: make_coco(root, larger(CONTENT, 12))),
    "nus_wide": ("root", lambda root: make_nus_wide(root, larger(CONTENT, 12))),
    **{name: ("root", make) for name, make in (MAKERS | VIDEO_MAKERS).items()},
}


def with_stand_ins(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A config whose datasets are small ones in the layout of those that it names; of checkpoints, with stand-ins."""
    for name, model in raw.get("models", {}).items():
        if isinstance(model.get("weights"), dict):
            model["weights"]["path"] = str(folder / f"{name}.pth")
            write(folder / f"{name}.pth", "mmaction", shifted=model["backbone"] == "tsm")
    for name, dataset in raw["datasets"].items():
        kind = dataset["source"]["type"]
        labels = f"{kind} {dataset.get('task')}"
        if kind in LAYOUTS:
            option, make = LAYOUTS.get(labels) or LAYOUTS[kind]
            dataset["source"][option] = str(make(folder / name))
    return raw
