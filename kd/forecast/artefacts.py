"""The size of every artefact of a plan. Imports torch only where a network was never measured before."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, cast

from kd.data.origin import MADE_FROM, origin_of
from kd.data.sources.base import SPLITS
from kd.data.storage import FORMAT, chunk_rows, row_size
from kd.distillers.base import target_names
from kd.distillers.registry import parse_distiller
from kd.embeddings.options import STORED_DTYPES, CacheOptions, Dtype, target_dtype
from kd.forecast.datasets import DatasetFacts, dataset_facts
from kd.forecast.memory import Memory
from kd.forecast.sizes import Size, array_size, file_size, group_size
from kd.jobs.errors import UserError
from kd.jobs.job import Job
from kd.models.spec import Level, ModelSpec, cached_levels, map_levels
from kd.plan import Plan

Shape = tuple[int, ...]
Arrays = dict[str, tuple[Shape, Dtype]]

# Folders of name and key, manifest and its copy, job, log and lock: no manifest counts them.
FRAME = Size(inodes=7)
HISTORY_HEADER, HISTORY_ROW = 31, 47  # bytes; the numbers in a row have 40 to 50 digits
MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}
STATISTICS = [1 / 3] * 3  # of a dataset, unknown before it is packed; only the number of digits counts


class Forecaster:
    """Sizes of the artefacts of a plan.

    Args:
        plan: what is wanted.
        memory: of what was measured before; the caller saves it.
    """

    def __init__(self, plan: Plan, memory: Memory) -> None:
        self.plan, self.memory = plan, memory
        self._facts: dict[str, DatasetFacts] = {}
        self._sizes: dict[str, Callable[[Job], Size]] = {
            "prepare_dataset": self._dataset_size,
            "fetch_weights": self._weights_size,
            "train_teacher": self._network_size,
            "cache_embeddings": self._embeddings_size,
            "train_joint_teacher": self._joint_size,
            "cache_targets": self._targets_size,
            "distill_student": self._student_size,
            "train_baseline": self._network_size,
        }

    def size(self, job: Job) -> Size:
        """What an artefact takes once it is finished.

        Raises:
            UserError: a network cannot be built, has no such level, or cannot be exported; a source cannot be
                listed or split. The text names the key of the config.
        """
        return self._sizes[job.stage](job) + FRAME

    def transient(self, job: Job) -> int:
        """Bytes that an artefact takes besides while it is made: the old and the new checkpoint of a training.

        A checkpoint holds the module, its moving average, the optimiser's moments and the best weights so far.
        """
        recipe = job.spec.get("recipe")
        if recipe is None:
            return 0
        measured = self._joint(job) if job.stage == "train_joint_teacher" else self._network(job)
        extra = self._projectors(job) if job.stage == "distill_student" else 0
        moments = MOMENTS[recipe["optimizer"]] if recipe["optimizer"] != "sgd" or recipe["momentum"] else 0
        state, trained = int(measured["state"]) + extra, int(measured["trained"]) + extra
        return 2 * ((3 if recipe["ema"] else 2) * state + moments * trained)

    # Datasets

    def facts(self, job: Job) -> DatasetFacts:
        """Of a dataset."""
        if job.key not in self._facts:
            self._facts[job.key] = dataset_facts(job, self.memory)
        return self._facts[job.key]

    def _upstream(self, job: Job, role: str) -> Job:
        return self.plan.jobs[job.upstream[role].directory]

    def _datasets(self, job: Job) -> list[DatasetFacts]:
        """Those that a job reads, in the order of its spec."""
        names = job.spec.get("targets" if job.stage == "train_joint_teacher" else "datasets")
        roles = ["dataset"] if names is None else [f"dataset:{name}" for name in names]
        return [self.facts(self._upstream(job, role)) for role in roles]

    def _dataset_size(self, job: Job) -> Size:
        facts = self.facts(job)
        attributes = {
            "format": FORMAT,
            MADE_FROM: origin_of(job),
            "task": "single_label",
            "name": facts.name,
            "classes": facts.classes,
            "image_size": facts.image_size,
            "resize": facts.resize,
            "mean": STATISTICS,
            "std": STATISTICS,
            "sizes": facts.sizes,
        }
        size = group_size(attributes) + file_size(facts.listing_bytes)
        for split in SPLITS:
            rows = facts.sizes[split]
            size += group_size({}) + array_size(rows, (*facts.image_size, facts.channels), "uint8")
            size += array_size(rows, (), "int64", chunk=rows) + array_size(rows, (), "int64", chunk=rows)
        return size

    # Networks

    def _weights_size(self, job: Job) -> Size:
        key = f"models: {job.spec['architecture']}"
        return file_size(self._measured(key, "weights", [job.spec["architecture"]])["file"])

    def _network_size(self, job: Job) -> Size:
        measured = self._network(job)
        return file_size(measured["file"]) + file_size(measured["config"]) + _history_size(job)

    def _student_size(self, job: Job) -> Size:
        self._student_levels(job)
        (facts,) = self._datasets(job)
        key, model = self._model_key(job), _shaping(job.spec["model"])
        exported = self._measured(key, "export", [model, _asked(facts)])
        return self._network_size(job) + file_size(exported["file"]) + file_size(exported["config"])

    def _student_levels(self, job: Job) -> None:
        """Refuse maps that the student does not have."""
        method, options = parse_distiller(job.spec["distiller"])
        level, individual = cast("Level", job.spec["level"]), job.spec["individual"]
        name = _config_name(job)
        key = f"students.{name}.level" if individual else f"joint_teachers.{self._teacher_name(name)}.level"
        if individual:
            for each in cached_levels(level, individual=True):
                self._tap(self._upstream(job, "teacher"), each, key)
        if method.uses_maps(options):
            for each in map_levels(level):
                self._tap(job, each, key)

    def _network(self, job: Job) -> dict[str, Any]:
        """What was measured of the network that a job trains."""
        datasets = [_asked(facts) for facts in self._datasets(job)]
        return self._measured(self._model_key(job), "network", [_shaping(job.spec["model"]), datasets])

    def _tap(self, job: Job, level: Level, key: str) -> Shape:
        """Shape of one sample's embedding by the network that a job trains."""
        measured = self._network(job)
        if level in measured["problems"]:
            raise UserError(f"{key}: {self._model_key(job)}: {measured['problems'][level]}")
        return tuple(measured["taps"][level])

    def _measured(self, key: str, kind: str, question: list[Any]) -> dict[str, Any]:
        def measure() -> dict[str, Any]:
            from kd.forecast import networks

            answers: dict[str, Callable[..., dict[str, Any]]] = {
                "weights": networks.measure_weights,
                "network": networks.measure_network,
                "export": networks.measure_export,
                "joint": networks.measure_joint,
            }
            return answers[kind](*question)

        try:
            return self.memory.recall(kind, question, measure)
        except UserError as error:
            raise UserError(f"{key}: {str(error).removeprefix('models: ')}") from error

    def _model_key(self, job: Job) -> str:
        """Key of the config for the model of a network."""
        config, name = self.plan.config, _config_name(job)
        if job.stage == "train_teacher":
            return f"models.{config.teachers[name].model}"
        if job.stage == "train_baseline":
            return f"models.{config.baselines[name].model}"
        own = config.students[name].model
        return f"models.{own or config.teachers[config.individual(job.spec['dataset'])].model}"

    def _teacher_name(self, student: str) -> str:
        teacher = self.plan.config.students[student].teacher
        assert isinstance(teacher, str)
        return teacher

    # Joint teachers

    def _joint_size(self, job: Job) -> Size:
        measured = self._joint(job)
        return file_size(measured["file"]) + file_size(measured["config"]) + _history_size(job)

    def _joint(self, job: Job) -> dict[str, Any]:
        """What was measured of a joint teacher."""
        spec, name = job.spec, _config_name(job)
        level, key = cast("Level", spec["level"]), f"joint_teachers.{name}"
        shapes = [self._embedding(job, teacher, level, f"{key}.level") for teacher in spec["teachers"]]
        facts = self._datasets(job)
        if spec["student"] is not None:
            model = self.plan.config.joint_teachers[name].student_model
            own = model or self.plan.config.teachers[self.plan.config.individual(facts[0].name)].model
            measured = self._measured(
                f"models.{own}", "network", [_shaping(spec["student"]), [_asked(each) for each in facts]]
            )
            for each in map_levels(level):
                if each in measured["problems"]:
                    raise UserError(f"{key}.level: models.{own}: {measured['problems'][each]}")
        student = None if spec["student"] is None else _shaping(spec["student"])
        asked = [_asked(each) for each in facts]
        return self._measured(key, "joint", [level, shapes, asked, student, spec["width"], spec["dropout"]])

    def _embedding(self, job: Job, teacher: str, level: Level, key: str) -> Shape:
        """Shape of one sample's embedding as a joint teacher gets it, from a store or live."""
        if job.spec["live"] is not None:
            network = self._upstream(job, f"teacher:{teacher}")
            options = job.spec["live"]
        else:
            store = self._upstream(job, f"embeddings:{teacher}:{job.spec['targets'][0]}")
            network, options = self._upstream(store, "teacher"), store.spec["cache"]
        return CacheOptions.model_validate(options).shape(level, self._tap(network, level, key))

    # Stores

    def _embeddings_size(self, job: Job) -> Size:
        options = CacheOptions.model_validate(job.spec["cache"])
        teacher = self._upstream(job, "teacher")
        arrays: Arrays = {
            level: (options.shape(level, self._tap(teacher, level, self._model_key(teacher))), options.dtype)
            for level in job.spec["levels"]
        }
        return self._store_size(job, arrays, SPLITS)

    def _targets_size(self, job: Job) -> Size:
        dtype = CacheOptions.model_validate(job.spec["cache"]).dtype
        shapes = self._target_shapes(self._upstream(job, "joint_teacher"), job.spec["dataset"])
        arrays: Arrays = {name: (shapes[name], target_dtype(name, dtype)) for name in job.spec["arrays"]}
        return self._store_size(job, arrays, ("train",))

    def _target_shapes(self, joint: Job, dataset: str) -> dict[str, Shape]:
        classes = {facts.name: len(facts.classes) for facts in self._datasets(joint)}
        shapes = {name: tuple(shape) for name, shape in self._joint(joint)["shapes"].items()}
        return shapes | {"logits": (classes[dataset],)}

    def _store_size(self, job: Job, arrays: Arrays, splits: Collection[str]) -> Size:
        (facts,) = self._datasets(job)
        size = group_size({"format": FORMAT, MADE_FROM: origin_of(job)})
        for split in splits:
            rows, views = facts.sizes[split], job.spec["views"] if split == "train" else 1
            size += group_size({}) + array_size(rows, (), "int64", chunk=rows)
            for shape, dtype in arrays.values():
                size += _encoded_size(rows, views, shape, dtype)
        return size

    # Students

    def _projectors(self, job: Job) -> int:
        """Bytes of what brings a student to the shapes of its targets, in training only."""
        method, options = parse_distiller(job.spec["distiller"])
        level = cast("Level", job.spec["level"])
        names = [name for name in target_names(level, method, options) if name != "logits"]
        total = 0
        for name, target in self._student_targets(job).items():
            own = self._tap(job, "L1" if name == "vector" else cast("Level", name), self._model_key(job))
            if name in names and own[0] != target[0]:
                total += 4 * target[0] * (own[0] + 1)
        return total

    def _student_targets(self, job: Job) -> dict[str, Shape]:
        """Shapes of the maps and the vector that a student is compared with."""
        if job.spec["individual"]:
            teacher, key = self._upstream(job, "teacher"), f"students.{_config_name(job)}.level"
            levels = cached_levels(cast("Level", job.spec["level"]), individual=True)
            return {"vector" if level == "L1" else level: self._tap(teacher, level, key) for level in levels}
        live = "teacher" in job.upstream
        joint = self._upstream(job if live else self._upstream(job, "targets"), "teacher" if live else "joint_teacher")
        shapes = self._target_shapes(joint, job.spec["dataset"])
        return {name: shape for name, shape in shapes.items() if name != "logits"}


def _encoded_size(rows: int, views: int, shape: Shape, dtype: Dtype) -> Size:
    """An array as `kd.embeddings.encoding` stores it, with the scales of int8."""
    stored = STORED_DTYPES[dtype]
    size = array_size(rows, shape, stored, views=views, attributes={"precision": dtype})
    if dtype == "int8":
        chunks = -(-rows // chunk_rows(rows, row_size(shape, stored)))
        size += array_size(chunks, shape[:1], "float32", views=views, chunk=1)
    return size


def _history_size(job: Job) -> Size:
    recipe = job.spec["recipe"]
    return Size() if recipe is None else file_size(HISTORY_HEADER + HISTORY_ROW * recipe["epochs"])


def _config_name(job: Job) -> str:
    """What the config calls it; names in a config have no hyphen."""
    return job.name.split("-")[0]


def _shaping(model: dict[str, Any]) -> dict[str, Any]:
    """What of a model decides its shapes: not what weights it brings."""
    unread = {"weights", "mean", "std", "registry"}
    shaping = {name: value for name, value in model.items() if name not in unread}
    return ModelSpec.model_validate(shaping).model_dump(mode="json", exclude=unread & ModelSpec.model_fields.keys())


def _asked(facts: DatasetFacts) -> dict[str, Any]:
    """What networks need to know of a dataset."""
    return {
        "name": facts.name,
        "classes": facts.classes,
        "image_size": facts.image_size,
        "resize": facts.resize,
    }
