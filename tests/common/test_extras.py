"""What comes with an extra is said where it is missing; extras and pins are those of the package."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

from kd.common.errors import UserError
from kd.common.extras import EXTRAS, missing_extras
from kd.jobs.run import Context, Outcome, run_job
from tests.artefacts.building import Spec, job
from tests.conftest import ROOT

OTHERWISE_CALLED = {"scikit-learn": "sklearn"}


def test_extras__are_those_of_the_package() -> None:
    """Each distribution by its name, and by that of its module."""
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, names in EXTRAS.items():
        declared = {re.split(r"[\[><=]", each)[0] for each in optional[extra]} - {"kd"}
        assert set(names) == declared | {OTHERWISE_CALLED[each] for each in declared & OTHERWISE_CALLED.keys()}


@pytest.mark.parametrize(("module", "extra"), [("matplotlib.pyplot", "report"), ("snakemake", "workflow")])
def test_missing_module__is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch, module: str, extra: str) -> None:
    top = module.split(".", maxsplit=1)[0]
    for name in [each for each in sys.modules if each.split(".")[0] == top]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[-1:])
    message = rf"kd\[{extra}\] is needed, which has {top}: .* `pip install '\.\[{extra}\]'`"
    with pytest.raises(UserError, match=message), missing_extras():
        __import__(module)


def test_missing_package__is_told_too_where_only_its_data_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match=r"kd\[report\] is needed, which has scikit-learn"), missing_extras():
        importlib.metadata.version("scikit-learn")


def test_missing_module__of_no_extra_stays_what_it_is() -> None:
    with pytest.raises(ModuleNotFoundError), missing_extras():
        __import__("no_such_module")


def test_job__that_lacks_an_extra_fails_in_one_line(tmp_path: Path) -> None:
    def build(_context: Context[Spec]) -> Outcome:
        raise ModuleNotFoundError("No module named 'torchcam'", name="torchcam.methods")

    made = job(tmp_path)
    with pytest.raises(UserError, match=r"kd\[report\] is needed, which has torchcam"):
        run_job(made, Spec(text="x"), build)
