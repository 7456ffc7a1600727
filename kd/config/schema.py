"""The typed description of an experiment. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt, MinLen
from pydantic import (
    AfterValidator,
    ConfigDict,
    SerializeAsAny,
    Strict,
    StringConstraints,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from kd.common.options import BaseOptions, OneOf
from kd.config.include import INCLUDE, SCHEMA
from kd.config.reports import ReportConfig
from kd.config.resources import MemoryConfig, ResourcesConfig
from kd.data.modalities.base import MODALITIES, Modality, load_modality
from kd.data.options import Augmentation, SplitOptions, Task
from kd.data.sources.base import SOURCES, load_source
from kd.distillers.registry import METHODS, load_distiller, usable_methods
from kd.embeddings.options import CacheOptions
from kd.models.spec import JointOptions, LabelEncoderOptions, Level, ModelSpec, untrained
from kd.training.recipe import Recipe, RecipeOptions

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$", max_length=80)]
Seed = Annotated[int, Strict(), Ge(0), Lt(2**64)]
Views = Annotated[int, Gt(0)] | Literal["none", "live"]


def _folder_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name) is None:
        raise ValueError(
            "expected a name that can be a folder's: at most 100 letters from a to z, digits, `_`, `-` and `.`, and no"
            " `-` or `.` at the start"
        )
    return name


def _complete(options: type[BaseOptions], given: dict[str, Any]) -> dict[str, Any]:
    """Validate by an options class that a registry gave, and fill in defaults."""
    unknown = [key for key in given if key not in options.model_fields]
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}, expected some of {list(options.model_fields)}")
    return options.model_validate(given).model_dump(mode="json")


def sections_of_sources() -> list[type[BaseOptions]]:
    """Options of each source that can be used, with its `type`."""
    make: Any = create_model
    options = {name: load_source(name).Options for name in SOURCES.usable()}
    return [
        make(f"source_{name}", __base__=each, __doc__=each.__doc__, type=(Literal[name], ...))
        for name, each in options.items()
    ]


def sections_of_methods() -> list[type[BaseOptions]]:
    """Options of each method that can be used."""
    return list(usable_methods().values())


def _with_options_of_images(schema: dict[str, Any]) -> None:
    """Let editors complete what datasets of images have; of other modalities nothing is known."""
    images = load_modality("image").model_json_schema()
    schema["properties"] |= images["properties"]
    schema["required"] = [key for key in schema["required"] if key != "samples"]
    schema["additionalProperties"] = True


class DatasetConfig(BaseOptions):
    """One labelled dataset. Beside these keys it has the options of its modality, which says what samples are."""

    model_config = ConfigDict(json_schema_extra=_with_options_of_images)

    # Ahead of the source, which must have labels for it.
    task: Task = "single_label"
    """`single_label`: each sample has one class; `multi_label`: any number of them."""
    source: Annotated[dict[str, Any], OneOf("type", sections_of_sources)]
    """Where samples come from: the `type` of a source and its options."""
    samples: SerializeAsAny[Modality]
    """Options of the modality, filled in by the program: in the config they stand beside `source`."""
    split: SplitOptions = SplitOptions()
    """Sizes of train, val and test."""

    @model_validator(mode="before")
    @classmethod
    def _options_of_the_modality(cls, given: Any) -> Any:
        """Gather the keys that the modality of the source knows, and validate them."""
        source = given.get("source") if isinstance(given, dict) else None
        name = source.get("type") if isinstance(source, dict) else None
        if not SOURCES.knows(name) or not isinstance(given.get("samples", {}), dict):
            return given
        takes = load_source(str(name)).MODALITY
        if not MODALITIES.knows(takes):
            raise ValueError(f"source.type: {name!r} has MODALITY {takes!r}, expected one of {MODALITIES.names()}")
        modality = load_modality(takes)
        own = {key: value for key, value in given.items() if key not in cls.model_fields}
        common = {key: value for key, value in given.items() if key in cls.model_fields}
        unknown = [key for key in own if key not in modality.model_fields]
        if unknown:
            raise ValueError(
                f"unknown key {unknown[0]!r}, allowed here: {', '.join([*cls.model_fields, *modality.model_fields])}"
            )
        return common | {"samples": modality.model_validate(common.get("samples", {}) | own)}

    @field_validator("source")
    @classmethod
    def _typed_source(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Validate by the options class of the source, and fill in defaults."""
        name, task = value.get("type"), info.data.get("task")
        if not SOURCES.knows(name):
            raise ValueError(f"type is {name!r}, expected one of {SOURCES.names()}, or the full name of a module")
        source = load_source(str(name))
        given = {key: each for key, each in value.items() if key != "type"}
        if task is not None:
            if task not in source.TASKS:
                able = [each for each in SOURCES.usable() if task in load_source(each).TASKS]
                raise ValueError(f"type {name!r} is {' or '.join(source.TASKS)}, {task} are {able}")
            if "task" in source.Options.model_fields:
                if given.get("task", task) != task:
                    raise ValueError("task is that of the dataset, filled in by the program; leave it out")
                given["task"] = task
        return {"type": name} | _complete(source.Options, given)


class RecipeConfig(RecipeOptions):
    """A recipe: how a network is trained."""

    augmentation: str | None = None
    """Name of an augmentation; `null`: views are the samples themselves."""


class TeacherConfig(BaseOptions):
    """An individual teacher: one network trained on one dataset, per seed."""

    dataset: str
    """Dataset that it is trained on."""
    model: str
    """Name of a model."""
    recipe: str | None
    """Name of a recipe. `null`: the given weights of the model are used as they are; they then must hold a classifier
    for the dataset."""


class JointTeacherConfig(BaseOptions):
    """A joint teacher: fuses the cached embeddings of several individual teachers (MLFD)."""

    level: Level
    """Where the individual teachers are tapped: `L1` is the vector; `L2`, `L3`, `L4` are the maps of the last three
    stages, with strides 32, 16, 8 in the usual networks."""
    teachers: Annotated[list[str], MinLen(1)] | None = None
    """Individual teachers that are fused; `null`: all."""
    targets: Annotated[list[str], MinLen(1)] | None = None
    """Datasets that it is trained for; `null`: all."""
    scope: Literal["per_target", "shared"] = "per_target"
    """`per_target`: one joint teacher for each target; `shared`: one for all, with a head for each target."""
    width: Annotated[int, Gt(0)] = 512
    """Channels of each adaptor (4096 in MLFD's paper); not used at L1."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5
    """Dropout before the classifier (0.9 in the paper's L1). Before a `label_encoder` it drops single elements of the
    last fused map."""
    label_encoder: LabelEncoderOptions | None = None
    """As in `models`, on the last fused map, if all targets are multi-label; `null`: one linear classifier."""
    student_model: str | None = None
    """Model whose map shapes the distilled maps take; `null`: that of the target's individual teacher."""
    views: Views = 1
    """Views of the training images: a count of stored views, which follow the epochs; `none`: one view without
    augmentation, as in the paper; `live`: no cache, the teachers look at a new view in each epoch."""
    cache: str | None = None
    """How embeddings are stored: name of an entry of `caches`; `null`: float16 at full resolution."""
    recipe: str
    """Name of a recipe; its augmentation makes the views."""
    experiment: str | None = None
    """Experiment in the tables; `null`: that of the config."""


class StudentConfig(BaseOptions):
    """Students: one distilled for each target dataset, per seed."""

    teacher: Annotated[str | dict[str, str], MinLen(1)]
    """Name of a joint teacher; or `individual`: each target's own individual teacher; or a mapping of targets to
    individual teachers of these datasets."""
    level: Level | None = None
    """Only for `mlfd` with an individual teacher: `L1` compares logits alone, `L2` to `L4` compare maps, too. A joint
    teacher has a level of its own, and other methods say themselves what they compare."""
    targets: Annotated[list[str], MinLen(1)] | None = None
    """Datasets; `null`: all that the teacher can teach."""
    model: str | None = None
    """Model of the students; `null`: that of the target's individual teacher."""
    distiller: Annotated[dict[str, Any], OneOf("name", sections_of_methods)] = {"name": "mlfd"}
    """The `name` of a method and its options."""
    sweep: dict[str, Annotated[list[float], MinLen(1)]] = {}
    """Options of the method that are numbers, each with a list of values: for each value a further student with that
    one option changed, for the figure `sensitivity`. They are in summary.csv as `variant`, not in the readable
    tables."""
    views: Views | None = None
    """Views, as of joint teachers; `null`: as the joint teacher has them, or 1 (with `vanilla`: `live`, which costs
    nothing there)."""
    cache: str | None = None
    """How targets are stored, and the embeddings behind them; `null`: as the joint teacher's, or float16 at full
    resolution."""
    recipe: str
    """Name of a recipe; its augmentation makes the views."""
    experiment: str | None = None
    """Experiment in the tables; `null`: that of the config."""

    @field_validator("distiller")
    @classmethod
    def _typed_distiller(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Validate by the options class of the method, and fill in defaults."""
        if not METHODS.knows(value.get("name")):
            raise ValueError(f"name is {value.get('name')!r}, expected one of {METHODS.names()}, or that of a module")
        return _complete(load_distiller(value["name"]), value)

    @field_validator("sweep")
    @classmethod
    def _swept_options(cls, value: dict[str, list[float]], info: ValidationInfo) -> dict[str, list[float]]:
        """Check that the method has each swept option and takes its values."""
        distiller = info.data.get("distiller")
        if distiller is None:  # it is a mistake itself
            return value
        method = load_distiller(distiller["name"])
        known = [option for option in method.model_fields if option != "name"]
        for option, values in value.items():
            if option not in known:
                raise ValueError(f"unknown key {option!r}, expected some of {known}")
            if len(set(values)) < len(values):
                raise ValueError(f"{option}: each value may stand once")
            for each in values:
                method.model_validate(distiller | {option: each})
        return value

    def variants(self) -> dict[str, dict[str, Any]]:
        """Distiller sections by what is swept: `option=value`; that of the student itself by an empty name."""
        method = load_distiller(self.distiller["name"])
        swept = {
            f"{option}={_exactly(value)}": _complete(method, self.distiller | {option: value})
            for option, values in self.sweep.items()
            for value in values
        }
        return {"": self.distiller} | swept


def _exactly(value: float) -> str:
    """The shortest text that reads back as the same number: 0.1, 10, 1e+06, 1000001.0."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


class BaselineConfig(BaseOptions):
    """One network trained with labels on all datasets at once, with a head for each, per seed."""

    datasets: Annotated[list[str], MinLen(1)] | None = None
    """Datasets that it is trained on, with a head for each; `null`: all."""
    model: str
    """Name of a model."""
    recipe: str
    """Name of a recipe; an epoch is a pass over all datasets."""
    experiment: str | None = None
    """Experiment in the tables; `null`: that of the config."""


class Config(BaseOptions):
    """A whole experiment file."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema["properties"].update({INCLUDE: SCHEMA}))

    experiment: Annotated[str, AfterValidator(_folder_name)] = "main"
    """Name in the tables, and of the folder `results/experiments/<experiment>` that they lie in: at most 100 letters,
    digits, `_`, `-` and `.`, with no `-` or `.` at the start."""
    results: Path = Path("results")
    """Folder for everything that is computed; may be shared between configs, checkouts and people."""
    seeds: Annotated[list[Seed], MinLen(1)] = [0]
    """One complete run for each, whole numbers from 0 to 2^64 - 1. Tables show mean and standard deviation over
    seeds."""
    datasets: Annotated[dict[Name, DatasetConfig], MinLen(1)]
    """Labelled datasets, by name."""
    models: Annotated[dict[Name, ModelSpec], MinLen(1)]
    """Backbones with their latent layer, by name."""
    augmentations: dict[Name, Augmentation] = {}
    """What a view may do to a sample, by name."""
    caches: dict[Name, CacheOptions] = {}
    """How stored embeddings and targets are encoded, by name."""
    recipes: Annotated[dict[Name, RecipeConfig], MinLen(1)]
    """How something is trained, by name."""
    teachers: Annotated[dict[Name, TeacherConfig], MinLen(1)]
    """Individual teachers, by name."""
    joint_teachers: dict[Name, JointTeacherConfig] = {}
    """Joint teachers, by name."""
    students: dict[Name, StudentConfig] = {}
    """Distilled students, by name."""
    baselines: dict[Name, BaselineConfig] = {}
    """Networks trained on all datasets at once, by name."""
    memory: MemoryConfig = MemoryConfig()
    """Data that a job may keep in memory."""
    resources: ResourcesConfig = ResourcesConfig()
    """GPUs, cores, memory, time and Slurm's partitions that jobs ask for."""
    reports: ReportConfig = ReportConfig()
    """What tables and figures show."""

    def recipe(self, name: str) -> Recipe:
        """A recipe with its augmentation put in, and without what its optimiser and schedule do not use.

        So a change of those numbers changes no key.
        """
        options = self.recipes[name].model_dump()
        if options["optimizer"] != "sgd":
            del options["momentum"]
        if options["schedule"] == "constant":
            del options["warmup"]
        augmentation = options.pop("augmentation")
        return Recipe(**options, augmentation=None if augmentation is None else self.augmentations[augmentation])

    def individual(self, dataset: str) -> str:
        """The teacher of a dataset where nobody names one: the first one trained on it."""
        return next(name for name, teacher in self.teachers.items() if teacher.dataset == dataset)

    def model_or_individual(self, model: str | None, dataset: str) -> str:
        """The name of a model; where none is given, that of the dataset's individual teacher."""
        return model or self.teachers[self.individual(dataset)].model

    def joint_options(self, joint: JointTeacherConfig, target: str) -> JointOptions:
        """What the joint teacher for a target is; one that several share has the map shapes of nobody's student."""
        student = None
        if joint.scope == "per_target" and joint.level != "L1":
            student = untrained(self.models[self.model_or_individual(joint.student_model, target)])
        return JointOptions(
            level=joint.level,
            student=student,
            width=joint.width,
            dropout=joint.dropout,
            label_encoder=joint.label_encoder,
        )

    def joint_targets(self, joint: JointTeacherConfig) -> list[str]:
        """Datasets that a joint teacher is trained for."""
        return joint.targets or list(self.datasets)

    def joint_members(self, joint: JointTeacherConfig) -> list[str]:
        """Individual teachers that a joint teacher fuses."""
        return joint.teachers or list(self.teachers)

    def student_targets(self, student: StudentConfig) -> list[str]:
        """Datasets that students are distilled for."""
        if student.targets is not None:
            return student.targets
        if isinstance(student.teacher, dict):
            return list(student.teacher)
        if student.teacher in self.joint_teachers:
            return self.joint_targets(self.joint_teachers[student.teacher])
        return list(self.datasets)

    def student_teacher(self, student: StudentConfig, target: str) -> str:
        """The joint or individual teacher of a student."""
        if isinstance(student.teacher, dict):
            return student.teacher[target]
        return self.individual(target) if student.teacher == "individual" else student.teacher

    def joint_teacher(self, student: StudentConfig) -> JointTeacherConfig | None:
        """The joint teacher of students; None: they have individual ones."""
        return self.joint_teachers.get(student.teacher) if isinstance(student.teacher, str) else None

    def individual_teachers(self, student: StudentConfig) -> dict[str, str]:
        """The individual teachers of students, by dataset; none where they have a joint teacher."""
        if self.joint_teacher(student) is not None:
            return {}
        return {target: self.student_teacher(student, target) for target in self.student_targets(student)}
