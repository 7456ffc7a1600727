"""What a run will weigh, by shapes and types alone, before anything of it is made; and whether it can be made at all.

Networks are built without storage, sources are listed, and no image is opened. Small files (descriptions, histories,
manifests, headers) are left out of bytes, but not of the number of files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from kd.artefacts.job import Job
from kd.artefacts.manifest import load_manifest
from kd.common.errors import UserError
from kd.data.modalities.base import load_modality
from kd.data.packed import DatasetInfo, read_info
from kd.data.packing import most_labels
from kd.data.sources.base import SPLITS
from kd.data.sources.registry import load_source
from kd.data.storage import array_layout
from kd.distillers.registry import parse_distiller
from kd.embeddings.options import STORED_DTYPES, CacheOptions
from kd.models.spec import Level, ModelSpec, map_levels
from kd.planning.plan import Plan
from kd.stages import prepare_dataset, train_joint_teacher

if TYPE_CHECKING:
    from kd.planning.network_sizes import Measured

T = TypeVar("T")
Shape = tuple[int, ...]

FRAME = 7  # folders of name and key, manifest and its copy, job, log and lock
SMALL_FILES = 3  # description, history, exported configuration: at most
MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}


@dataclass(frozen=True)
class Size:
    """Bytes of contents, and files and folders."""

    bytes: int = 0
    files: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.bytes + other.bytes, self.files + other.files)

    def on_disk(self, block: int) -> int:
        """Bytes of a file system that gives whole blocks, at least one, to every file and folder; an upper bound."""
        return self.bytes + self.files * block


def array_size(rows: int, row_shape: Shape, dtype: str, views: int = 0, chunk: int = 0) -> Size:
    """A Zarr array of `kd.data.storage`, once it is filled: its last chunks are padded."""
    shape, chunks = array_layout(rows, row_shape, dtype, views, chunk)
    count = math.prod(-(-size // step) for size, step in zip(shape, chunks, strict=True))
    return Size(count * math.prod(chunks) * np.dtype(dtype).itemsize, 2 + count)  # its folder and zarr.json besides


class Forecast:
    """Sizes of the artefacts of a plan.

    Every method raises a UserError, which names the key of the config, if something cannot be made: a network cannot
    be built, has no such level or cannot be exported; a source cannot be listed or split.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.config = plan, plan.config
        self._known: dict[tuple[str, ...], Any] = {}

    def dataset(self, job: Job) -> DatasetInfo:
        """A packed dataset; one that is not packed yet has made-up statistics."""
        return self._once(("dataset", job.key), lambda: self._dataset(job))

    def network(self, job: Job) -> Measured:
        """The measured sizes of the network that a job trains."""
        model, datasets = ModelSpec.model_validate(job.spec["model"]), self._datasets(job)
        return self._network(self._model_key(job), model, datasets)

    def joint(self, job: Job) -> Measured:
        """The measured sizes of a joint teacher."""
        return self._once(("joint", job.key), lambda: self._joint(job))

    def _once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = make()
        found: T = self._known[key]
        return found

    def size(self, job: Job) -> Size:
        """The size of an artefact once it is finished."""
        sizes: dict[str, Callable[[Job], Size]] = {
            "prepare_dataset": self._packed,
            "fetch_weights": self._weights,
            "cache_embeddings": self._store,
            "cache_targets": self._store,
            "distill_student": self._student,
        }
        make = sizes.get(job.stage)
        own = Size(self._measured(job).bytes) if make is None else make(job)
        return own + Size(files=FRAME + SMALL_FILES)

    def _measured(self, job: Job) -> Measured:
        return self.joint(job) if job.stage == "train_joint_teacher" else self.network(job)

    def transient(self, job: Job) -> int:
        """Bytes that an artefact takes besides while it is made: the old and the new checkpoint of a training.

        A checkpoint holds the module, its moving average, the optimiser's moments and the best weights so far.
        """
        recipe = job.spec.get("recipe")
        if recipe is None:
            return 0
        measured = self._measured(job)
        more = self._modules(job) if job.stage == "distill_student" else 0
        moments = MOMENTS[recipe["optimizer"]] if recipe["optimizer"] != "sgd" or recipe["momentum"] else 0
        return 2 * ((3 if recipe["ema"] else 2) * (measured.bytes + more) + moments * (measured.trained + more))

    def savings(self, job: Job) -> int:
        """Bytes that a store would not take if of label-wise embeddings it held those of positives alone."""
        if "label_embeddings" not in job.spec.get("arrays", ()):
            return 0
        cheaper = job.spec | {"cache": job.spec["cache"] | {"label_embeddings": "positives"}}
        return self.size(job).bytes - self.size(job.model_copy(update={"spec": cheaper})).bytes

    # Datasets

    def _upstream(self, job: Job, role: str) -> Job:
        return self.plan.jobs[job.upstream[role].directory]

    def _dataset(self, job: Job) -> DatasetInfo:
        with suppress(UserError):  # what is wrong with it is said by the stage, which rebuilds it
            if load_manifest(job.directory) is not None:
                return read_info(job.directory)
        spec = prepare_dataset.Spec.model_validate(job.spec)
        selection = prepare_dataset.select(spec)
        return DatasetInfo(
            name=spec.name,
            classes=tuple(selection.classes),
            samples=load_modality(spec.modality).model_validate(spec.sample),
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            sizes={split: int((selection.codes == code).sum()) for code, split in enumerate(SPLITS)},
            task=spec.task,
            most_labels=most_labels(selection.samples),
        )

    def _datasets(self, job: Job) -> list[DatasetInfo]:
        """The stores that a job reads, in the order of its spec."""
        names = job.spec.get("targets" if job.stage == "train_joint_teacher" else "datasets")
        roles = ["dataset"] if names is None else [f"dataset:{name}" for name in names]
        return [self.dataset(self._upstream(job, role)) for role in roles]

    def _packed(self, job: Job) -> Size:
        info, channels = self.dataset(job), load_source(job.spec["source"]["type"]).CHANNELS
        labels = (len(info.classes),) if info.task == "multi_label" else ()
        total = Size(files=2)
        for rows in info.sizes.values():
            total += array_size(rows, info.samples.shape(channels), "uint8") + array_size(rows, (), "int64", chunk=rows)
            total += array_size(rows, labels, "uint8" if labels else "int64", chunk=rows) + Size(files=2)
        return total

    # Networks

    def _weights(self, job: Job) -> Size:
        from kd.planning.network_sizes import measure_pretrained

        architecture = job.spec["architecture"]
        wanted = (architecture, "pretrained")
        name = next(name for name, each in self.config.models.items() if (each.architecture, each.weights) == wanted)
        return Size(self._named(f"models.{name}.weights", lambda: measure_pretrained(architecture)).bytes)

    def _student(self, job: Job) -> Size:
        from kd.planning.network_sizes import measure_export

        name, method = job.name.split("-")[0], parse_distiller(job.spec["distiller"])
        own = f"students.{name}.{'level' if method.NEEDS_LEVEL else 'distiller'}"
        key = own if job.spec["individual"] else f"joint_teachers.{self.config.students[name].teacher}.level"
        levels = method.required(job.spec["level"]).levels
        for network in [job, *([self._behind(job)] if job.spec["individual"] and levels else [])]:
            for level in levels:
                self._tap(network, level, key)
        model, (info,) = ModelSpec.model_validate(job.spec["model"]), self._datasets(job)
        exported = ("export", repr(model), repr(info))
        plain = self._named(self._model_key(job), lambda: self._once(exported, lambda: measure_export(model, info)))
        return Size(self.network(job).bytes + plain.bytes)

    def _network(self, key: str, model: ModelSpec, datasets: list[DatasetInfo]) -> Measured:
        """Measured once for all seeds, methods and teachers that have the model for the same datasets."""
        from kd.planning.network_sizes import measure_network

        known = ("network", repr(model), repr(datasets))
        return self._named(key, lambda: self._once(known, lambda: measure_network(model, datasets)))

    def _tap(self, job: Job, level: str, key: str) -> Shape:
        """Shape of one sample's output by the network that a job trains."""
        measured = self.network(job)
        if level in measured.problems:
            raise UserError(f"{key}: {self._model_key(job)}: {measured.problems[level]}")
        return tuple(measured.shapes[level])

    def _named(self, key: str, measure: Callable[[], T]) -> T:
        """Models are measured without their names, by which the config knows them."""
        try:
            return measure()
        except UserError as error:
            told = str(error).removeprefix("models: ")
            raise UserError(f"{key}.{told[7:]}" if told.startswith("models.") else f"{key}: {told}") from error

    def _model_key(self, job: Job) -> str:
        """Key of the config for the model of a network."""
        name = job.name.split("-")[0]  # names in a config have no hyphen
        sections = {"train_teacher": self.config.teachers, "train_baseline": self.config.baselines}
        if job.stage in sections:
            return f"models.{sections[job.stage][name].model}"  # type: ignore[index]
        return f"models.{self.config.model_or_individual(self.config.students[name].model, job.spec['dataset'])}"

    # Joint teachers

    def _joint(self, job: Job) -> Measured:
        from kd.planning.network_sizes import measure_joint

        spec, name = train_joint_teacher.Spec.model_validate(job.spec), job.name.split("-")[0]
        where = f"joint_teachers.{name}"
        shapes = [self._embedding(job, teacher, spec.level, f"{where}.level") for teacher in spec.teachers]
        datasets = self._datasets(job)
        if spec.student is not None:
            given = self.config.joint_teachers[name].student_model
            own = f"models.{self.config.model_or_individual(given, datasets[0].name)}"
            measured = self._network(own, spec.student, datasets)
            for each in map_levels(spec.level):
                if each in measured.problems:
                    raise UserError(f"{where}.level: {own}: {measured.problems[each]}")
        return self._named(where, lambda: measure_joint(spec, shapes, datasets))

    def _embedding(self, job: Job, teacher: str, level: Level, key: str) -> Shape:
        """Shape of one sample's embedding as a joint teacher gets it, from a store or live."""
        options, network = job.spec["live"], job
        if options is not None:
            network = self._upstream(job, f"teacher:{teacher}")
        else:
            store = self._upstream(job, f"embeddings:{teacher}:{job.spec['targets'][0]}")
            network, options = self._upstream(store, "teacher"), store.spec["cache"]
        return CacheOptions.model_validate(options).shape(level, self._tap(network, level, key))

    # Stores and students

    def _outputs(self, source: Job, dataset: DatasetInfo, names: Collection[str], key: str = "") -> dict[str, Shape]:
        """Shapes of one sample's outputs by a network or a joint teacher."""
        joint = source.stage == "train_joint_teacher"
        encoder = (source.spec if joint else source.spec["model"])["label_encoder"]
        classes = len(dataset.classes)
        own: dict[str, Shape] = {"logits": (classes,)} | (
            {"label_embeddings": (classes, encoder["width"])} if encoder else {}
        )
        if joint:
            own |= self.joint(source).shapes
        return {
            name: own[name] if name in own else self._tap(source, name, key or self._model_key(source))
            for name in names
        }

    def _store(self, job: Job) -> Size:
        (info,), options = self._datasets(job), CacheOptions.model_validate(job.spec["cache"])
        targets = job.stage == "cache_targets"
        source = self._upstream(job, "joint_teacher" if targets else "teacher")
        shapes = self._outputs(source, info, job.spec["arrays"])
        if not targets:
            shapes = {name: options.shape(name, shape) for name, shape in shapes.items()}
        total = Size(files=2)
        for split in ("train",) if targets else SPLITS:
            rows, views = info.sizes[split], job.spec["views"] if split == "train" else 1
            total += array_size(rows, (), "int64", chunk=rows) + Size(files=2)
            for shape, dtype in options.stored(shapes, info.most_labels).values():
                total += array_size(rows, shape, STORED_DTYPES[dtype], views)
                if dtype == "int8":  # scales, one for each channel of each chunk
                    chunks = -(-rows // array_layout(rows, shape, "int8", 0, 0)[1][0])
                    total += array_size(chunks, shape[:1], "float32", views, chunk=1)
        return total

    def _modules(self, job: Job) -> int:
        """Bytes of what a method trains beside the student."""
        from kd.planning.network_sizes import measure_modules

        method, (info,) = parse_distiller(job.spec["distiller"]), self._datasets(job)
        names, key = method.required(job.spec["level"]).names(), f"students.{job.name.split('-')[0]}"
        student = self._outputs(job, info, names)
        teacher = self._outputs(self._behind(job), info, names, key) if names else {}
        return self._named(key, lambda: measure_modules(method, student, teacher, info.sizes["train"]))

    def _behind(self, job: Job) -> Job:
        """The individual or joint teacher of a student."""
        role = "teacher" if job.spec["individual"] else "joint_teacher"
        if "targets" in job.upstream:
            return self._upstream(self._upstream(job, "targets"), role)
        return self._upstream(job, f"teacher:{job.spec['live_teachers'][0]}" if job.spec["individual"] else role)
