"""Packages that `pip install` brings only with an extra of kd, and what is said where one of them is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kd.common.errors import UserError

EXTRAS = {
    "report": (
        "pandas",
        "scipy",
        "sklearn",
        "scikit-learn",
        "matplotlib",
        "pygments",
        "torchcam",
        "openTSNE",
        "tensorboard",
    ),
    "workflow": ("snakemake", "mlxtend"),
}
"""Names of modules, and of distributions where they are others, by the extra that has them."""


@contextmanager
def missing_extras() -> Iterator[None]:
    """Say in one line which extra has a package that is needed and not installed."""
    try:
        yield
    except ModuleNotFoundError as error:  # also raised by importlib.metadata, for a distribution
        name = (error.name or "").partition(".")[0]
        extra = next((extra for extra, names in EXTRAS.items() if name in names), None)
        if extra is None:
            raise
        raise UserError(
            f"kd[{extra}] is needed, which has {name}: in a checkout of kd, `pip install '.[{extra}]'` installs it"
        ) from error
