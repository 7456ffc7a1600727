"""Does this checkout compute what another commit computed? For changes that must not change results.

    python -m tests.same_results COMMIT [--config FILE ...] [--folder FOLDER]

Makes every artefact of the configs with the code of COMMIT and with that of the working tree, and compares them by
stage and name: tensors of networks, arrays of datasets, stores and predictions, histories, metrics; keys are left out,
since they hold the digest of the code. What COMMIT made is kept in `--folder`, if one is given, for the next call.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from safetensors.numpy import load_file

ROOT = Path(__file__).parent.parent
CONFIGS = (ROOT / "tests/tiny.yaml", ROOT / "tests/multilabel.yaml")


def make_results(checkout: Path, config: Path, folder: Path) -> Path:
    """Run a config with the code of a checkout, from nothing; returns its results folder."""
    results = folder / "results"
    if (folder / "done").exists():
        return results
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(checkout / "Snakefile"), "--cores", "2"]
    command += ["--workflow-profile", str(checkout / "workflow/profiles/workstation"), "--directory", str(folder)]
    command += ["--configfile", str(config), "--config", f"results={results}", "--", "all"]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{checkout}, {config}:\n{done.stdout}{done.stderr}")
    (folder / "done").touch()
    return results


def digest(*arrays: np.ndarray) -> str:
    """Of values, shapes and types."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def contents(results: Path) -> dict[str, str]:
    """Digest of everything that was computed, by stage, name and what it is."""
    return {
        f"{manifest.parents[2].name}/{manifest.parents[1].name}: {what}": found
        for manifest in sorted(results.glob("*/*/*/manifest.json"))
        if manifest.parents[2].name not in ("table", "figure", "analysis")  # they say what it cost
        for what, found in artefact_contents(manifest.parent)
    }


def artefact_contents(directory: Path) -> Iterator[tuple[str, str]]:
    """What is in an artefact, each with its digest."""
    result: dict[str, Any] = json.loads((directory / "manifest.json").read_text())["result"]
    yield "result", digest(np.array(json.dumps(result, sort_keys=True)))
    for path in sorted(directory.glob("*.safetensors")):
        for name, tensor in sorted(load_file(path).items()):
            yield f"{path.name} {name}", digest(tensor)
    for path in sorted(directory.glob("*.npz")):
        with np.load(path) as arrays:
            for name in arrays:
                yield f"{path.name} {name}", digest(arrays[name])
    for path in sorted(directory.glob("*.csv")):
        yield path.name, digest(np.array(pd.read_csv(path).drop(columns="seconds", errors="ignore").to_csv()))
    for store in sorted(directory.glob("*.zarr")):
        for name, array in sorted(zarr.open_group(store, mode="r").members(max_depth=None)):
            if isinstance(array, zarr.Array):
                yield f"{store.name} {name}", digest(np.asarray(array[...]))


def main() -> None:
    """Make both, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--config", type=Path, action="append", help="(default: tiny and multilabel)")
    parser.add_argument("--folder", type=Path, help="keeps what COMMIT made")
    options = parser.parse_args()
    differing = 0
    with tempfile.TemporaryDirectory() as scratch:
        rev_parse = ["git", "-C", str(ROOT), "rev-parse", "--verify", f"{options.commit}^{{commit}}"]
        commit = subprocess.run(rev_parse, check=True, capture_output=True, text=True).stdout.strip()
        before = Path(scratch, "before")
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(before)], check=True)
        subprocess.run(["git", "-C", str(before), "checkout", "--quiet", commit], check=True)
        kept = (options.folder or Path(scratch)) / commit
        for config in options.config or CONFIGS:
            own = before / config.resolve().relative_to(ROOT)
            wanted = contents(make_results(before, own, kept / config.stem))
            found = contents(make_results(ROOT, config.resolve(), Path(scratch, "now", config.stem)))
            differ = [name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
            sys.stdout.write(f"{config.name}: {len(wanted)} things compared, {len(differ)} differ\n")
            sys.stdout.writelines(f"    {name}\n" for name in differ)
            differing += len(differ)
    raise SystemExit(bool(differing))


if __name__ == "__main__":
    main()
