"""Knowledge distillation from many datasets. `kd.api` lists the public names, which are there as `kd.NAME`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd.api import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        # A public name. torch is imported when the first one is used, and not for `kd --help`.
        if name == "__all__" or not name.startswith("_"):
            api = importlib.import_module("kd.api")
            if name in ("__all__", *api.__all__):
                return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *importlib.import_module("kd.api").__all__]
