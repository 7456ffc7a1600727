"""Every command, config and piece of Python that the documents show is tried, as far as its data allow."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
import zarr
from PIL import Image
from snakemake.cli import get_argument_parser

from docs.generate.disk_format import docstring_of
from kd.__main__ import parser
from kd.cli.forecast import check_fit
from kd.config.load import load_config, read_config
from kd.data.modalities.image import Samples
from kd.data.packed import DatasetInfo
from kd.models.spec import ModelSpec
from kd.models.weights import export_student, new_network, save_network
from kd.planning.plan import Plan, find_job, plan_of
from tests.cli.conftest import build
from tests.conftest import ROOT
from tests.data.layouts import CONTENT, Content, make_coco, make_csv, make_nus_wide, make_voc
from tests.data.official_layouts import MAKERS
from tests.data.video_layouts import VIDEO_MAKERS, touch
from tests.models.test_mmaction_checkpoints import write

DOCUMENTS = ("README.md", "config/README.md", "config/mlfd/README.md")
CONFIGS = [path for path in sorted(ROOT.glob("config/**/*.yaml")) if path.parent.name != "sets"]  # which are parts
TEXTS = {name: (ROOT / name).read_text() for name in DOCUMENTS}
PROSE = {name: re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL) for name, text in TEXTS.items()}
BLOCKS = [block for text in PROSE.values() for block in re.findall(r"(?<=\n\n)((?:    .+\n)+)", text)]
SOURCES = [ROOT / "Snakefile", *ROOT.glob("workflow/rules/*.smk")]
RULES = {rule for path in SOURCES for rule in re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE)}


FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fenced(language: str) -> list[str]:
    """Blocks of a language, in the order of the documents."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [block for text in TEXTS.values() for block in fence.findall(text)]


# Configs


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


def examples() -> list[dict[str, Any]]:
    """The configs in the documents; later ones, which show a part, take the rest from the first."""
    first, *parts = (yaml.safe_load(block) for block in fenced("yaml"))
    parts += [yaml.safe_load(block) for block in BLOCKS if re.fullmatch(r"\w+:", block.split()[0])]
    shared = ("recipes", "augmentations")
    whole = [{key: first[key] for key in shared} | part if "datasets" in part else first | part for part in parts]
    return [first, *whole]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all."""
    return tmp_path_factory.mktemp("documents") / "results"


def check(raw: dict[str, Any], results: Path, folder: Path) -> None:
    one_seed = {"seeds": raw.get("seeds", [0])[:1]}  # others are checked alike
    plan = Plan(load_config(with_stand_ins(raw, folder) | one_seed | {"results": str(results)}))
    first = next(check_fit(plan, [*plan.jobs]))
    count = len(plan.run().jobs)
    assert first.startswith(f"still to be made: {count} of {count}, ")


@pytest.mark.parametrize("number", range(len(examples())))
def test_example__passes_preflight(number: int, results: Path, tmp_path: Path) -> None:
    check(examples()[number], results, tmp_path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config__passes_preflight(path: Path, results: Path, tmp_path: Path) -> None:
    check(read_config(path), results, tmp_path)


# Commands


def listed_commands() -> list[str]:
    """Lines of blocks that begin with a program, what is between back quotes, and comments in configs."""
    lines = [line for block in BLOCKS if block.split()[0] in PROGRAMS for line in block.splitlines()]
    # A word alone is the name of a program, and not a command.
    lines += [span for text in PROSE.values() for span in re.findall(r"`([^`]+)`", text) if " " in span.strip()]
    lines += [line[1:] for path in CONFIGS for line in path.read_text().splitlines() if line.startswith("#")]
    found = [line.strip() for line in lines if line.strip() and line.split()[0] in PROGRAMS]
    return list(dict.fromkeys(found))


def check_make(words: list[str], _example: Path) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(targets)


def check_source(words: list[str], _example: Path) -> None:
    assert words == [".venv/bin/activate"]
    assert "-m venv .venv" in (ROOT / "Makefile").read_text()


def check_pip(words: list[str], _example: Path) -> None:
    assert words[:2] == ["install", "-r"]
    assert (ROOT / words[2]).is_file()


def check_squeue(words: list[str], _example: Path) -> None:
    assert words == ["--format", "%i %k"]


def check_tensorboard(words: list[str], _example: Path) -> None:
    assert words == ["--logdir", "results"]


def check_snakemake(words: list[str], _example: Path) -> None:
    """Its options are known, and what it names is there."""
    options = get_argument_parser().parse_args(words)
    assert set(options.targets) <= RULES
    for path in options.configfile or []:
        assert path == Path("my.yaml") or (ROOT / path).is_file()
    if options.workflow_profile is not None:
        assert (ROOT / options.workflow_profile / "profile.yaml").is_file()


def check_python(words: list[str], example: Path) -> None:
    """Commands of this package run where they only read; benchmarks are there."""
    assert words[0] == "-m"
    module, *arguments = words[1:]
    if module.startswith(("benchmarks", "docs")):
        path = ROOT / module.replace(".", "/")
        assert module == "benchmarks.…" or path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
        return
    assert module == "kd"
    if not arguments or arguments in (["predict"], ["invalidate"]):  # of which the prose speaks
        return
    arguments = ["train_teacher/pets-seed0" if word == "NAME" else word for word in arguments]
    options = parser().parse_args(arguments)
    if arguments[0] == "invalidate":
        plan = plan_of(example)
        build(find_job(plan, "prepare_dataset/pets"), find_job(plan, options.name))
    if "configfile" in options:
        options.configfile = [example] if arguments[0] == "gc" else example
    lines = []
    with suppress(SystemExit) if arguments[0] == "doctor" else nullcontext():  # which may find this machine lacking
        lines += options.run(options)
    assert lines or arguments[0] == "doctor"
    shutil.rmtree(example.parent / "results/train_teacher", ignore_errors=True)
    shutil.rmtree(example.parent / "results/prepare_dataset", ignore_errors=True)


PROGRAMS: dict[str, Callable[[list[str], Path], None]] = {
    "make": check_make,
    "source": check_source,
    "pip": check_pip,
    "squeue": check_squeue,
    "tensorboard": check_tensorboard,
    "snakemake": check_snakemake,
    "python": check_python,
}
# What else is shown indented, by its first word: listings, what commands print, and a piece of a config.
SHOWN = ("kd/cli/", "cache_embeddings/", "still to be made", "ok ", "Snakefile,", "resources:", "results/<stage>")


def test_blocks__are_commands_that_are_tried_or_known_to_be_none() -> None:
    unknown = [block for block in BLOCKS if block.split()[0] not in PROGRAMS and not block.strip().startswith(SHOWN)]
    assert unknown == []
    assert len(listed_commands()) > 15


@pytest.mark.parametrize("line", listed_commands())
def test_command__is_one_that_there_is(line: str, example: Path) -> None:
    words = shlex.split(re.sub(r"\[[^\]]*\]", "", line), comments=True)
    PROGRAMS[words[0]](words[1:], example)


# Results to look at


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would be: with my.yaml and its results, an image, and a store."""
    here = tmp_path_factory.mktemp("reader")
    (here / "results").mkdir()
    (here / "my.yaml").write_text(yaml.safe_dump(with_stand_ins(examples()[0], here / "data")))
    torch.manual_seed(0)
    for student, encoder in (("mlfd-for-pets", None), ("l2d-for-park", {"width": 16, "heads": 2, "hidden": 8})):
        info = DatasetInfo(
            student.rsplit("-", 1)[1],
            ("cat", "dog"),
            Samples(image_size=(40, 48), resize="crop"),
            (0.5,) * 3,
            (0.2,) * 3,
            {},
        )
        directory = here / f"results/distill_student/{student}-seed0/KEY"
        directory.mkdir(parents=True)
        spec = ModelSpec.model_validate({"architecture": "test_resnet", "label_encoder": encoder})
        network = new_network(spec, [info])
        save_network(network, directory)
        export_student(network, info, directory)
    Image.new("RGB", (30, 20), "teal").save(here / "holiday.jpg")
    return here


@pytest.fixture
def example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("kd.__main__.CONFIG", folder / "my.yaml")
    return folder / "my.yaml"


def test_python__runs(example: Path) -> None:
    plain, encoded, _ = fenced("python")  # that of clips is tried in tests/models/test_clip_backbones.py
    (stored,) = FENCE.findall(docstring_of("kd/embeddings/store.py"))
    images = torch.rand(2, 3, 40, 48)
    model = execute(plain, timm=timm)["model"].eval()
    assert model(torch.rand(2, 3, *model.pretrained_cfg["input_size"][1:])).shape == (2, 2)
    assert execute(encoded, images=images)["probabilities"].shape == (2, 2)
    truth = np.random.default_rng(0).normal(size=(1, 6, 3, 2, 2)).astype(np.float32)
    for precision in ("float32", "bfloat16", "int8"):
        write_store(example.with_name("embeddings.zarr"), truth, precision)
        values = execute(stored, zarr=zarr, np=np)["values"]
        np.testing.assert_allclose(values, truth[0], atol=0 if precision == "float32" else 0.03)


def execute(code: str, **given: Any) -> dict[str, Any]:
    names = dict(given)
    exec(code, names)
    return names


def write_store(path: Path, values: np.ndarray, precision: str) -> None:
    """As kd.embeddings.store describes stores: (V, N, C, h, w) in chunks of four rows."""
    group = zarr.open_group(path, mode="w").require_group("train")
    stored = values
    if precision == "bfloat16":
        stored = (values.view(np.uint32) >> 16).astype(np.uint16)
    if precision == "int8":
        blocks = [values[:, first : first + 4] for first in (0, 4)]
        scale = np.stack([np.abs(block).max(axis=(1, 3, 4)) / 127 for block in blocks], axis=1)
        stored = np.round(values / scale[:, [0, 0, 0, 0, 1, 1], :, None, None]).astype(np.int8)
        group.create_array("L2_scale", data=scale)
    array = group.create_array("L2", data=stored, chunks=(1, 4, *values.shape[2:]))
    array.attrs["precision"] = precision
