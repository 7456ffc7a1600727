"""Every command and piece of Python that the documents show is tried, as far as its data allow; messages are ours."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

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
from kd.data.modalities.image import Samples
from kd.data.packed import DatasetInfo
from kd.models.spec import ModelSpec
from kd.models.weights import export_student, new_network, save_network
from kd.planning.plan import find_job, plan_of
from tests.cli.conftest import build
from tests.conftest import ROOT
from tests.documents import BASE, BLOCKS, CONFIGS, DOCUMENTS, PROSE, TEXTS, execute, fenced, with_stand_ins

SOURCES = [ROOT / "Snakefile", *ROOT.glob("workflow/rules/*.smk")]
RULES = {rule for path in SOURCES for rule in re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE)}


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
    """A file of requirements, or this package with some of its extras."""
    assert words[0] == "install"
    if words[1] == "-r":
        assert (ROOT / words[2]).is_file()
        return
    (extras,) = re.fullmatch(r"\.(?:\[([\w,]+)\])?", words[1]).groups(default="")  # type: ignore[union-attr]
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("optional-dependencies", {})
    assert set(filter(None, extras.split(","))) <= set(known)


def check_chmod(words: list[str], _example: Path) -> None:
    assert words == ["g+ws", "results"]


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
    if not arguments or arguments in (["predict"], ["invalidate"], ["--help"]):  # of which the prose speaks
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
    "chmod": check_chmod,
    "squeue": check_squeue,
    "tensorboard": check_tensorboard,
    "snakemake": check_snakemake,
    "python": check_python,
    "kd": lambda words, example: check_python(["-m", "kd", *words], example),
}
# What else is shown indented, by its first word: listings, what commands print, and a piece of a config.
SHOWN = ("kd/api.py", "cache_embeddings/", "still to be made", "ok ", "Snakefile,", "resources:", "results/<stage>")
LANGUAGES = {"yaml", "python"}  # of fences: what these hold is tried


def test_blocks__are_commands_that_are_tried_or_known_to_be_none() -> None:
    unknown = [block for block in BLOCKS if block.split()[0] not in PROGRAMS and not block.strip().startswith(SHOWN)]
    assert unknown == []
    assert len(listed_commands()) > 15


@pytest.mark.parametrize("name", DOCUMENTS)
def test_fences__are_in_languages_that_are_tried(name: str) -> None:
    assert set(re.findall(r"^```(\w*)\n.*?^```$", TEXTS[name], re.MULTILINE | re.DOTALL)) <= LANGUAGES


@pytest.mark.parametrize("line", listed_commands())
def test_command__is_one_that_there_is(line: str, example: Path) -> None:
    words = shlex.split(re.sub(r" \[[^\]]*\]", "", line), comments=True)
    PROGRAMS[words[0]](words[1:], example)


# Results to look at


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would be: with my.yaml and its results, an image, and a store."""
    here = tmp_path_factory.mktemp("reader")
    (here / "results").mkdir()
    config = yaml.safe_load(fenced("yaml", BASE)[0])
    (here / "my.yaml").write_text(yaml.safe_dump(with_stand_ins(config, here / "data")))
    torch.manual_seed(0)
    encoders = {
        "mlfd-for-pets": None,
        "mlfd_l2-for-digits": None,
        "l2d-for-park": {"width": 16, "heads": 2, "hidden": 8},
    }
    for student, encoder in encoders.items():
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
    for name in ("holiday.jpg", "digit.png"):
        Image.new("RGB", (30, 20), "teal").save(here / name)
    return here


@pytest.fixture
def example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("kd.__main__.CONFIG", folder / "my.yaml")
    return folder / "my.yaml"


# A line of each piece of Python; that of clips is tried in tests/models/test_clip_backbones.py.
PIECES = {
    "plain": 'timm.create_model("local-dir:',
    "encoded": "network = kd.load_network(",
    "clips": "def shift(conv, inputs):",
}


def test_python__is_all_tried() -> None:
    names = [name for name in DOCUMENTS if name != "docs/library.md"]  # which has tests of its own
    pieces = [[name for name, text in PIECES.items() if text in block] for block in fenced("python", *names)]
    assert sorted(pieces) == [[name] for name in sorted(PIECES)]


def piece(name: str) -> str:
    (found,) = (block for block in fenced("python") if PIECES[name] in block)
    return found


def test_python__runs(example: Path) -> None:
    (stored,) = re.findall(r"^```python\n(.*?)^```$", docstring_of("kd/embeddings/store.py"), re.MULTILINE | re.DOTALL)
    images = torch.rand(2, 3, 40, 48)
    model = execute(piece("plain"), timm=timm)["model"].eval()
    assert model(torch.rand(2, 3, *model.pretrained_cfg["input_size"][1:])).shape == (2, 2)
    assert execute(piece("encoded"), images=images)["probabilities"].shape == (2, 2)
    truth = np.random.default_rng(0).normal(size=(1, 6, 3, 2, 2)).astype(np.float32)
    for precision in ("float32", "bfloat16", "int8"):
        write_store(example.with_name("embeddings.zarr"), truth, precision)
        values = execute(stored, zarr=zarr, np=np)["values"]
        np.testing.assert_allclose(values, truth[0], atol=0 if precision == "float32" else 0.03)


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


# Messages


def texts_of_the_program() -> Iterator[str]:
    """All texts in its code, with a line break for what differs; names of constants are replaced by their values."""
    trees = [ast.parse(path.read_text()) for path in ROOT.glob("kd/**/*.py")]
    constants = {
        target.id: node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def text_of(part: ast.expr) -> str:
        inner = part.value if isinstance(part, ast.FormattedValue) else part
        if isinstance(inner, ast.Name):
            return constants.get(inner.id, "\n")
        return str(inner.value) if isinstance(inner, ast.Constant) else "\n"

    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(map(text_of, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
    for path in SOURCES:  # rules are no plain Python
        for literals in re.findall(r'((?:f?"[^"\n]*"\s*)+)', path.read_text()):
            yield re.sub(r"\{[^}]*\}", "\n", "".join(re.findall(r'"([^"]*)"', literals)))


def test_troubleshooting__has_messages_of_the_program_word_by_word() -> None:
    known = "\n\n".join(texts_of_the_program())
    messages = re.findall(r"^\*\*``(.+?)``\*\*$", TEXTS["docs/troubleshooting.md"], re.MULTILINE)
    assert len(messages) > 60
    pieces = {part: message for message in messages for part in re.split(r"…|; ", message.strip())}
    assert {part: message for part, message in pieces.items() if part.strip(" :") not in known} == {}
