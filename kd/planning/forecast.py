"""What a run will weigh, by shapes and types alone, before anything of it is made; and whether it can be made at all.

Networks are built without storage, sources are listed, and no image is opened. Small files (descriptions, histories,
manifests, headers) are left out of bytes, but not of the number of files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import timm
import torch
from torch import nn

from kd.artefacts.disk import Size
from kd.artefacts.job import Job
from kd.artefacts.manifest import load_manifest
from kd.common.errors import UserError
from kd.data.modalities.base import load_modality
from kd.data.packed import DatasetInfo, read_info
from kd.data.packing import most_labels
from kd.data.sources.base import SPLITS, load_source
from kd.data.storage import array_layout
from kd.distillers.base import Shapes
from kd.distillers.registry import parse_distiller
from kd.embeddings.options import STORED_DTYPES, CacheOptions
from kd.models.backbones.timm_weights import check_pretrained
from kd.models.joint import JointTeacher, joint_config
from kd.models.network import Network, tap_shapes
from kd.models.outputs import Outputs, shapes_of
from kd.models.spec import LEVELS, JointOptions, ModelSpec, map_levels, untrained
from kd.models.weights import Exported, new_network
from kd.planning.plan import Plan
from kd.stages.prepare_dataset import Spec, select
from kd.training.predictions import predictions_bytes

Shape = tuple[int, ...]
FORWARD_ERRORS = (RuntimeError, AssertionError, ValueError, IndexError, AttributeError, TypeError)
FOLDER = Size(files=2)  # a folder and what Zarr says of it, in a store
FRAME = Size(files=10)  # folders of name and key, manifest and its copy, job, log, lock, and at most three small files


def array_size(rows: int, row_shape: Shape, dtype: str, views: int = 0, chunk: int = 0) -> Size:
    """A Zarr array of `kd.data.storage`, once it is filled: its last chunks are padded."""
    shape, chunks = array_layout(rows, row_shape, dtype, views, chunk)
    count = math.prod(-(-size // step) for size, step in zip(shape, chunks, strict=True))
    return FOLDER + Size(count * math.prod(chunks) * np.dtype(dtype).itemsize, count)


class Forecast:
    """Sizes of the artefacts of a plan.

    Datasets and networks go by their names in the config: each is looked at once for all seeds, methods and views.
    Every method raises a UserError, which names the key of the config, if something cannot be made: a network cannot
    be built, has no such level or cannot be exported; a source cannot be listed or split.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.config = plan, plan.config
        self.dataset, self.network, self.joint = cache(self._dataset), cache(self._network), cache(self._joint)
        self.exported = cache(self._exported)

    def size(self, job: Job) -> Size:
        """The size of an artefact once it is finished."""
        if job.stage == "prepare_dataset":
            own = self._packed(job)
        elif job.stage in ("cache_embeddings", "cache_targets"):
            own = self._store(job)
        elif job.stage == "fetch_dataset":
            own = Size(sum(job.spec["bytes"].values()), len(job.spec["bytes"]))
        elif job.stage == "fetch_weights":
            own = Size(self._weights(job.spec["architecture"]).bytes)
        else:
            own = Size(self._trained(job).bytes) + self._predictions(job)
        if job.stage == "distill_student":
            own += Size(self.exported(self._model(job), job.spec["dataset"]).bytes)
        return own + FRAME

    def transient(self, job: Job) -> int:
        """Bytes that an artefact takes besides while it is made: the old and the new checkpoint of a training.

        A checkpoint holds the module, its moving average, the optimiser's moments and the best weights so far.
        """
        recipe = job.spec.get("recipe")
        if recipe is None:
            return 0
        trained = self._trained(job)
        more = self._auxiliary(job).bytes if job.stage == "distill_student" else 0
        moments = 2 if recipe["optimizer"] != "sgd" else int(recipe["momentum"] > 0)
        return 2 * ((3 if recipe["ema"] else 2) * (trained.bytes + more) + moments * (trained.trained + more))

    def savings(self, job: Job) -> int:
        """Bytes that a store would not take if of label-wise embeddings it held those of positives alone."""
        if "label_embeddings" not in job.spec.get("arrays", ()):
            return 0
        cheaper = job.spec | {"cache": job.spec["cache"] | {"label_embeddings": "positives"}}
        return self.size(job).bytes - self.size(job.model_copy(update={"spec": cheaper})).bytes

    # Datasets and stores: rows x shape x dtype of each array.

    def _dataset(self, name: str) -> DatasetInfo:
        """A packed dataset; one that is not packed yet has made-up statistics."""
        job = next(job for job in self.plan.stage("prepare_dataset") if job.name == name)
        with suppress(UserError):  # what is wrong with it is said by the stage, which rebuilds it
            if load_manifest(job.directory) is not None:
                return read_info(job.directory)
        spec = Spec.model_validate(job.spec)
        selection = select(spec)
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

    def _packed(self, job: Job) -> Size:
        info, channels = self.dataset(job.name), load_source(job.spec["source"]["type"]).CHANNELS
        labels, dtype = ((len(info.classes),), "uint8") if info.task == "multi_label" else ((), "int64")
        total = FOLDER
        for rows in info.sizes.values():
            total += FOLDER + array_size(rows, (), "int64", chunk=rows)
            total += array_size(rows, labels, dtype, chunk=rows)
            total += array_size(rows, info.samples.shape(channels), "uint8")
        return total

    def _store(self, job: Job) -> Size:
        name, info, targets = _entry(job), self.dataset(job.spec["dataset"]), job.stage == "cache_targets"
        options = CacheOptions.model_validate(job.spec["cache"])
        source = self.joint(name, info.name) if targets else self.teacher(name)
        shapes = {array: source.output(array, f"teachers.{name}") for array in job.spec["arrays"]}
        if not targets:
            shapes = {array: options.shape(array, shape) for array, shape in shapes.items()}
        total = FOLDER
        for split in ("train",) if targets else SPLITS:
            rows, views = info.sizes[split], job.spec["views"] if split == "train" else 1
            total += FOLDER + array_size(rows, (), "int64", chunk=rows)
            for shape, dtype in options.stored(shapes, info.most_labels).values():
                total += array_size(rows, shape, STORED_DTYPES[dtype], views)
                if dtype == "int8":  # scales, one for each channel of each chunk
                    chunks = -(-rows // array_layout(rows, shape, "int8", 0, 0)[1][0])
                    total += array_size(chunks, shape[:1], "float32", views, chunk=1)
        return total

    # Networks

    def _trained(self, job: Job) -> Measured:
        """The network that a job trains, or that a teacher with given weights is."""
        name, spec = _entry(job), job.spec
        if job.stage == "train_teacher":
            return self.teacher(name)
        if job.stage == "train_joint_teacher":
            return self.joint(name, spec["targets"][0])
        if job.stage == "train_baseline":
            return self.network(self.config.baselines[name].model, *spec["datasets"])
        return self.network(self._model(job), spec["dataset"])

    def _predictions(self, job: Job) -> Size:
        """What a network says of the test splits that it is measured on."""
        total = Size()
        told = job.spec.get("datasets") or job.spec.get("targets") or [job.spec.get("dataset")]
        for name in [self.config.teachers[_entry(job)].dataset] if job.stage == "train_teacher" else told:
            info = self.dataset(name)
            multi_label = info.task == "multi_label"
            total += Size(predictions_bytes(info.sizes["test"], len(info.classes), multi_label=multi_label), 1)
        return total

    def _model(self, job: Job) -> str:
        """Name of the model of a student."""
        return self.config.model_or_individual(self.config.students[_entry(job)].model, job.spec["dataset"])

    def teacher(self, name: str) -> Measured:
        """An individual teacher."""
        teacher = self.config.teachers[name]
        return self.network(teacher.model, teacher.dataset)

    def _network(self, model: str, *datasets: str) -> Measured:
        key, packed = f"models.{model}", [self.dataset(name) for name in datasets]
        found = measured(key, lambda: measure_network(self.config.models[model], packed))
        return replace(found, problems={name: f"{key}: {problem}" for name, problem in found.problems.items()})

    def _joint(self, name: str, target: str) -> Measured:
        """The joint teacher that serves a target, with what it makes of it."""
        joint, key = self.config.joint_teachers[name], f"joint_teachers.{name}"
        taps = [self.teacher(each).output(joint.level, f"{key}.level") for each in self.config.joint_members(joint)]
        shapes = [self.plan.caches.of_joint(joint).cache.shape(joint.level, tap) for tap in taps]
        datasets = self.config.joint_targets(joint) if joint.scope == "shared" else [target]
        if joint.scope == "per_target":
            student = self.config.model_or_individual(joint.student_model, target)
            for level in map_levels(joint.level):  # told with the key of the joint teacher
                self.network(student, target).output(level, f"{key}.level")
        options, packed = self.config.joint_options(joint, target), [self.dataset(each) for each in datasets]
        return measured(key, lambda: measure_joint(options, shapes, packed, target))

    def _weights(self, architecture: str) -> Measured:
        wanted = (architecture, "pretrained")
        name = next(name for name, each in self.config.models.items() if (each.architecture, each.weights) == wanted)
        return measured(f"models.{name}.weights", lambda: measure_pretrained(architecture))

    def _exported(self, model: str, dataset: str) -> Measured:
        """The plain module that a student is exported as, beside the network; nothing where there is none."""
        spec, packed = self.config.models[model], self.dataset(dataset)
        return measured(f"models.{model}", lambda: weigh(Exported(build(spec, [packed]), dataset).plain))

    def _auxiliary(self, job: Job) -> Measured:
        """What a method trains beside the student, by the shapes of what it compares."""
        name, target, method = _entry(job), job.spec["dataset"], parse_distiller(job.spec["distiller"])
        behind = self.config.student_teacher(self.config.students[name], target)
        key = f"students.{name}.{'level' if method.NEEDS_LEVEL else 'distiller'}"
        if not job.spec["individual"]:
            key = f"joint_teachers.{behind}.level"
        networks = [self._trained(job), self.teacher(behind) if job.spec["individual"] else self.joint(behind, target)]
        names = method.required(job.spec["level"]).names()
        student, teacher = ({each: network.output(each, key) for each in names} for network in networks)
        samples = self.dataset(target).sizes["train"]
        return measured(f"students.{name}", lambda: weigh(method.auxiliary(student, teacher, samples)))


def _entry(job: Job) -> str:
    """Name of the teacher, joint teacher, student or baseline of the config that a job is of; it has no hyphen."""
    return job.name.split("-")[0]


# Networks, built on torch's meta device, where they take no storage.


@dataclass(frozen=True)
class Measured:
    """A network.

    Attributes:
        bytes: of its tensors.
        trained: bytes of those that train.
        shapes: of one sample's outputs, by name, as in `kd.models.spec.ARRAYS`.
        problems: why it lacks others.
    """

    bytes: int
    trained: int
    shapes: Shapes = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    def output(self, name: str, key: str) -> Shape:
        """Shape of one sample's output.

        Raises:
            UserError: there is none, though `key` of the config asks for it.
        """
        if name in self.problems:
            raise UserError(f"{key}: {self.problems[name]}")
        return self.shapes[name]


def measured(key: str, measure: Callable[[], Measured]) -> Measured:
    """Measure on the meta device; some architectures look at values while they are built: on the CPU.

    Raises:
        UserError: as `measure`, which does not know the `key` that its network has in the config.
    """
    try:
        with suppress(Exception), torch.device("meta"):  # whatever goes wrong, the CPU says whether it is a mistake
            return measure()
        return measure()
    except UserError as error:
        told = str(error)
        raise UserError(key + told.removeprefix("models") if told.startswith("models") else f"{key}: {told}") from error


def weigh(module: nn.Module | None) -> Measured:
    """A module, of which no outputs are asked; None weighs nothing."""
    if module is None:
        return Measured(0, 0)
    trained = sum(each.nbytes for each in module.parameters() if each.requires_grad)
    return Measured(sum(each.nbytes for each in module.state_dict().values()), trained)


def build(model: ModelSpec, datasets: Sequence[DatasetInfo]) -> Network:
    """A network with a head for each dataset, whatever weights it is to start from."""
    return new_network(untrained(model), datasets)


def measure_network(model: ModelSpec, datasets: Sequence[DatasetInfo]) -> Measured:
    """An individual teacher, a student or a baseline, with the outputs for its first dataset.

    Raises:
        UserError: timm cannot build it, or it does not take images of this size.
    """
    network = build(model, datasets)
    shapes: dict[str, Shape] = {}
    problems: dict[str, str] = {}
    names = [*LEVELS, "logits", *(["label_embeddings"] if network.labels is not None else [])]
    with suppress(UserError, *FORWARD_ERRORS):  # all at once where that goes well, as nearly always; else one by one
        shapes.update(tap_shapes(network, names, datasets[0].name))
    for name in names:
        try:
            shape = shapes[name] = shapes.get(name) or tap_shapes(network, [name], datasets[0].name)[name]
            if name in LEVELS and len(shape) != (1 if name == "L1" else 3):
                problems[name] = f"level {name}: has the shape {shape}, expected a vector at L1 and else a map"
        except UserError as error:
            problems[name] = str(error)
        except FORWARD_ERRORS as error:
            if network.mean.is_meta:
                raise
            rows, columns = network.config.input_size
            problems[name] = f"level {name}: fails on an image of {rows} x {columns} pixels: {error}"
    if "L1" in problems:
        raise UserError(f"models{'.kwargs' if model.kwargs else ''}: {model.architecture}: {problems['L1']}")
    return replace(weigh(network), shapes=shapes, problems=problems)


def measure_pretrained(architecture: str) -> Measured:
    """A whole architecture with the classifier of its pretrained weights.

    Raises:
        UserError: timm has no such weights.
    """
    check_pretrained(architecture)
    return weigh(timm.create_model(architecture))


def measure_joint(
    options: JointOptions, shapes: Sequence[Shape], datasets: Sequence[DatasetInfo], target: str
) -> Measured:
    """A joint teacher of all these datasets, with the outputs for one of them; `shapes` are those that it reads."""
    joint = JointTeacher(joint_config(options, shapes, datasets)).eval()
    with torch.no_grad():
        outputs: Outputs = joint([{options.level: torch.zeros(1, *shape)} for shape in shapes])
    return replace(weigh(joint), shapes=shapes_of(outputs.arrays(target)))
