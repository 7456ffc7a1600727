"""Any network as methods see it: what it computes for a batch, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from kd.common.errors import UserError
from kd.models.backbones.timm import Kind as TimmImages
from kd.models.joint import FusedTeacher, JointTeacher
from kd.models.network import Network, Tap, at_rest
from kd.models.outputs import shapes_of
from kd.models.spec import ARRAYS, MAP_LEVELS

DIMENSIONS = {"logits": 2, "L1": 2} | dict.fromkeys(MAP_LEVELS, 4)


class Tapped(Tap):
    """A network that gives what methods compare, by name.

    `logits` are (B, classes), the vector `L1` is (B, D), the maps `L2`, `L3` and `L4` are (B, C, h, w). The network
    itself is not changed, and takes its batches as it always did.

    Args:
        module: maps a batch to logits: a model of timm, any other module, or a `Network` of this package.
        names: what is wanted.
        classifier: name of the submodule whose input is the vector L1. None: the classifier of a timm model; of other
            modules the last `nn.Linear` in the order of their submodules.
        maps: names of the submodules whose outputs are the maps, by level. None: of a timm model the outputs of its
            last three stages; other modules have none then.
        dataset: whose head is used, where a `Network` has heads for several datasets.

    Raises:
        UserError: the module has no such submodule, no such level, or no such dataset.

    Examples:
        >>> import kd, timm, torch
        >>> network = kd.Tapped(timm.create_model("test_resnet", num_classes=5), ("logits", "L1", "L2"))
        >>> {name: tuple(value.shape) for name, value in network(torch.rand(4, 3, 32, 32)).items()}
        {'logits': (4, 5), 'L1': (4, 96), 'L2': (4, 96, 1, 1)}
    """

    def __init__(
        self,
        module: nn.Module,
        names: Sequence[str] = ("logits",),
        *,
        classifier: str | None = None,
        maps: Mapping[str, str] | None = None,
        dataset: str | None = None,
    ) -> None:
        names = (names,) if isinstance(names, str) else names
        unknown = [name for name in names if name not in ARRAYS]
        if unknown:
            raise UserError(f"names: {unknown[0]!r}, expected some of {', '.join(ARRAYS)}")
        ours = isinstance(module, Network | JointTeacher | FusedTeacher)
        super().__init__(module, names, _head(module, dataset) if ours else "")
        self.given = {"classifier": classifier, "maps": maps, "dataset": dataset}
        self.taps = {} if ours else self._taps(classifier, maps)

    def naming(self, names: Sequence[str]) -> Tapped:
        """The same network, giving other arrays."""
        return Tapped(self.module, names, **cast("dict[str, Any]", self.given))

    def _taps(self, classifier: str | None, maps: Mapping[str, str] | None) -> dict[str, tuple[str, bool]]:
        """Submodules that are tapped, by the array that this gives, and whether it is their input."""
        taps = {}
        unknown = [level for level in maps or () if level not in MAP_LEVELS]
        if unknown:
            raise UserError(f"maps: {unknown[0]!r}, expected some of {', '.join(MAP_LEVELS)}")
        if "label_embeddings" in self.names:
            raise UserError("label_embeddings: only a Network with a label_encoder has them")
        if "L1" in self.names:
            taps["L1"] = (_classifier(self.module) if classifier is None else classifier, True)
        by_timm = maps is None and _is_of_timm(self.module)
        for level in (level for level in self.levels if level != "L1" and not by_timm):
            if maps is None or level not in maps:
                raise UserError(
                    f"level {level}: say which submodule of {type(self.module).__name__} gives this map, such as"
                    f" maps={{{level!r}: 'layer4'}}"
                )
            taps[level] = (maps[level], False)
        modules = dict(self.module.named_modules())
        for name, (path, _) in taps.items():
            if path not in modules:
                raise UserError(f"{name}: {type(self.module).__name__} has no submodule {path!r}")
        return taps

    def forward(self, inputs: Any) -> dict[str, Tensor]:
        """A batch to its arrays, in the order of `names`.

        Raises:
            UserError: an array has another number of dimensions than its name stands for, or is changed in place later.
        """
        if isinstance(self.module, Network):
            return super().forward(inputs)
        if isinstance(self.module, JointTeacher | FusedTeacher):
            return self.module(inputs).arrays(self.dataset, self.names)  # type: ignore[no-any-return]
        found: dict[str, Any] = {}
        versions: dict[str, int] = {}

        def keep(name: str, *, before: bool) -> Any:
            def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any = None) -> None:
                found[name] = inputs[0] if before else output
                versions[name] = _version(found[name])

            return hook

        handles = []
        for name, (path, before) in self.taps.items():
            tapped = self.module.get_submodule(path)
            register = tapped.register_forward_pre_hook if before else tapped.register_forward_hook
            handles.append(register(keep(name, before=before)))
        try:
            found |= self._run(inputs)
        finally:
            for handle in handles:
                handle.remove()
        for name, version in versions.items():
            if version != _version(found[name]):
                path = self.taps[name][0]
                raise UserError(
                    f"{name}: what comes next changes the output of {path!r} in place; tap what gives its final value"
                )
        return {name: self._checked(name, found.get(name)) for name in self.names}

    def _run(self, inputs: Any) -> dict[str, Any]:
        """Logits; and maps, where timm gives them."""
        levels = [level for level in self.levels if level != "L1" and level not in self.taps]
        if not levels:
            return {"logits": self.module(inputs)}
        module: Any = self.module
        final, maps = TimmImages().intermediates(module, inputs, levels)
        return maps | {"logits": module.forward_head(final)}

    def _checked(self, name: str, value: Any) -> Tensor:
        if name == "L1" and isinstance(value, Tensor) and value.shape[2:] == (1, 1):  # a 1x1 conv is the classifier
            return value.flatten(1)
        if not isinstance(value, Tensor) or value.ndim != DIMENSIONS[name]:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            where = (
                f"{'input' if self.taps[name][1] else 'output'} of {self.taps[name][0]}" if name in self.taps else ""
            )
            what = f"{name}: the {where or 'output'} of {type(self.module).__name__}"
            raise UserError(f"{what} is {found}, expected a tensor of {DIMENSIONS[name]} dimensions")
        return value

    def shapes(self, inputs: Any) -> dict[str, tuple[int, ...]]:
        """Shape of one sample's part of each array, found by computing a batch.

        Args:
            inputs: a batch, as `forward` takes it; one sample is enough.
        """
        with at_rest(self):
            return shapes_of(self(inputs))


def _version(value: Any) -> int:
    """Counts the changes of a tensor in place."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0  # noqa: SLF001


def _head(module: Any, dataset: str | None) -> str:
    """The dataset whose head is used."""
    datasets: list[str] = list(module.config.heads)
    if dataset is None and len(datasets) == 1:
        return datasets[0]
    if dataset is None or dataset not in datasets:
        raise UserError(f"dataset: {dataset!r}, expected one of {', '.join(datasets)}")
    return dataset


def _is_of_timm(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("forward_intermediates", "forward_head", "get_classifier"))


def _classifier(module: Any) -> str:
    """Name of the classifier of a model of timm, or of the last linear layer of any other."""
    named: dict[str, nn.Module] = dict(module.named_modules())
    own = module.get_classifier() if hasattr(module, "get_classifier") else None
    names = [name for name, each in named.items() if (each is own if own is not None else isinstance(each, nn.Linear))]
    if not names:
        raise UserError(
            f"L1: {type(module).__name__} has no classifier that can be found; name it by the argument `classifier`"
        )
    return names[-1]
