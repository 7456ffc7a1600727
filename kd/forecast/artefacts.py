"""The size of every artefact of a plan. Imports torch only where a network was never measured before."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, cast

from kd.data.origin import MADE_FROM, origin_of
from kd.data.sources.base import SPLITS
from kd.data.storage import FORMAT, chunk_rows, row_size
from kd.distillers.registry import parse_distiller
from kd.embeddings.options import STORED_DTYPES, CacheOptions, Dtype
from kd.forecast.datasets import DatasetFacts, dataset_facts
from kd.forecast.memory import Memory
from kd.forecast.sizes import Size, array_size, file_size, group_size
from kd.jobs.errors import UserError
from kd.jobs.job import Job
from kd.models.spec import Level, ModelSpec, map_levels
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
        extra = self._parts(job) if job.stage == "distill_student" else 0
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
            "task": facts.task,
            "most_labels": facts.most_labels,
            "name": facts.name,
            "classes": facts.classes,
            "image_size": facts.image_size,
            "resize": facts.resize,
            "mean": STATISTICS,
            "std": STATISTICS,
            "sizes": facts.sizes,
            "ground": facts.ground,
        }
        size = group_size(attributes) + file_size(facts.listing_bytes)
        for split in SPLITS:
            rows = facts.sizes[split]
            size += group_size({}) + array_size(rows, (*facts.image_size, facts.channels), "uint8")
            if facts.task == "multi_label":
                size += array_size(rows, (len(facts.classes),), "uint8", chunk=rows)
            else:
                size += array_size(rows, (), "int64", chunk=rows)
            size += array_size(rows, (), "int64", chunk=rows)
        return size

    # Networks

    def _weights_size(self, job: Job) -> Size:
        architecture, models = job.spec["architecture"], self.plan.config.models
        name = next(
            name for name, each in models.items() if (each.architecture, each.weights) == (architecture, "pretrained")
        )
        return file_size(self._measured(f"models.{name}.weights", "weights", [architecture])["file"])

    def _network_size(self, job: Job) -> Size:
        measured = self._network(job)
        return file_size(measured["file"]) + file_size(measured["config"]) + _history_size(job)

    def _student_size(self, job: Job) -> Size:
        self._student_levels(job)
        (facts,) = self._datasets(job)
        key, model = self._model_key(job), _shaping(job.spec["model"])
        exported = self._measured(key, "export", [model, _asked(facts)])
        weights = Size() if exported["file"] is None else file_size(exported["file"])
        return self._network_size(job) + weights + file_size(exported["config"])

    def _student_levels(self, job: Job) -> None:
        """Refuse maps that the student, or its individual teacher, does not have."""
        name, method = _config_name(job), parse_distiller(job.spec["distiller"])
        levels = method.needs(job.spec["level"]).levels
        own = f"students.{name}.{'level' if method.ASKS_LEVEL else 'distiller'}"
        key = own if job.spec["individual"] else f"joint_teachers.{self._teacher_name(name)}.level"
        for each in levels:
            self._tap(job, each, key)
        if job.spec["individual"] and levels:
            for each in levels:
                self._tap(self._behind(job), each, key)

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
                "parts": networks.measure_parts,
            }
            return answers[kind](*question)

        try:
            return self.memory.recall(kind, question, measure)
        except UserError as error:
            # Models are measured without their names, by which the config knows them.
            told = str(error).removeprefix("models: ")
            raise UserError(f"{key}.{told[7:]}" if told.startswith("models.") else f"{key}: {told}") from error

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
        question = [level, shapes, asked, student, spec["width"], spec["dropout"], spec["label_encoder"]]
        return self._measured(key, "joint", question)

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
        shapes = {
            name: options.shape(name, shape)
            for name, shape in self._outputs(self._upstream(job, "teacher"), job, job.spec["arrays"]).items()
        }
        return self._store_size(job, self._arrays(job, shapes, options), SPLITS)

    def savings(self, job: Job) -> int:
        """Bytes that a store would not take if of label-wise embeddings it held those of positives alone."""
        if "label_embeddings" not in job.spec.get("arrays", ()):
            return 0
        cheaper = job.spec | {"cache": job.spec["cache"] | {"label_embeddings": "positives"}}
        return self.size(job).bytes - self.size(job.model_copy(update={"spec": cheaper})).bytes

    def _arrays(self, job: Job, shapes: dict[str, Shape], options: CacheOptions) -> Arrays:
        """As they are in a store."""
        (facts,) = self._datasets(job)
        return options.stored(shapes, facts.most_labels)

    def _outputs(self, network: Job, job: Job, names: Collection[str], key: str = "") -> dict[str, Shape]:
        """Shapes of one sample's outputs by a network, on the dataset of a job."""
        (facts,) = self._datasets(job)
        own = self._by_dataset(len(facts.classes), network.spec["model"]["label_encoder"])
        return {
            name: own[name] if name in own else self._tap(network, cast("Level", name), key or self._model_key(network))
            for name in names
        }

    def _by_dataset(self, classes: int, label_encoder: dict[str, Any] | None) -> dict[str, Shape]:
        """Shapes of what there is for each label."""
        shapes: dict[str, Shape] = {"logits": (classes,)}
        if label_encoder is not None:
            shapes["label_embeddings"] = (classes, label_encoder["width"])
        return shapes

    def _targets_size(self, job: Job) -> Size:
        shapes = self._target_shapes(self._upstream(job, "joint_teacher"), job.spec["dataset"])
        wanted = {name: shapes[name] for name in job.spec["arrays"]}
        options = CacheOptions.model_validate(job.spec["cache"])
        return self._store_size(job, self._arrays(job, wanted, options), ("train",))

    def _target_shapes(self, joint: Job, dataset: str) -> dict[str, Shape]:
        classes = {facts.name: len(facts.classes) for facts in self._datasets(joint)}
        shapes = {name: tuple(shape) for name, shape in self._joint(joint)["shapes"].items()}
        return shapes | self._by_dataset(classes[dataset], joint.spec["label_encoder"])

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

    def _parts(self, job: Job) -> int:
        """Bytes of what a method trains beside the student."""
        method = parse_distiller(job.spec["distiller"])
        names = method.needs(job.spec["level"]).names()
        (facts,) = self._datasets(job)
        student, teacher = self._outputs(job, job, names), self._student_targets(job, names)
        question = [job.spec["distiller"], student, teacher, facts.sizes["train"]]
        return int(self._measured(f"students.{_config_name(job)}", "parts", question)["state"])

    def _behind(self, job: Job) -> Job:
        """The individual teacher of a student, or of a store."""
        if "targets" in job.upstream:
            return self._upstream(self._upstream(job, "targets"), "teacher")
        return self._upstream(job, f"teacher:{job.spec['live_teachers'][0]}")

    def _student_targets(self, job: Job, names: Collection[str]) -> dict[str, Shape]:
        """Shapes of what a student is compared with."""
        if not names:
            return {}
        if job.spec["individual"]:
            return self._outputs(self._behind(job), job, names, f"students.{_config_name(job)}")
        live = "joint_teacher" in job.upstream
        joint = self._upstream(job if live else self._upstream(job, "targets"), "joint_teacher")
        shapes = self._target_shapes(joint, job.spec["dataset"])
        return {name: shapes[name] for name in names}


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
        "ground": facts.ground,
    }
