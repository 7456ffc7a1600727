"""Cross-references within a config: every name must be that of something, and the whole must make sense."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from kd.common.errors import did_you_mean
from kd.config.schema import Config, JointTeacherConfig, StudentConfig
from kd.data.modalities.base import MODALITIES
from kd.distillers.registry import parse_distiller, usable_methods
from kd.models.backbones.base import BACKBONES, load_backbone
from kd.models.spec import Checkpoint, ModelSpec, map_levels
from kd.stages.registry import stages_of

MOST_LISTED = 30


def find_problems(config: Config) -> Iterator[str]:
    """Yield every mistake: the key, what was given and what is allowed."""
    if len(set(config.seeds)) < len(config.seeds):
        yield f"seeds: given {config.seeds}; each seed may stand once"
    for name, model in config.models.items():
        yield from _model(f"models.{name}", model)
    for name, recipe in config.recipes.items():
        yield from _known(f"recipes.{name}.augmentation", recipe.augmentation, config.augmentations, "augmentation")
    yield from _memory(config)
    problems = [*_teachers(config), *_joint_teachers(config), *dict.fromkeys(_models(config))]
    yield from problems
    # The checks below follow references, which must hold first.
    if not problems:
        students = [_student(config, f"students.{name}", student) for name, student in config.students.items()]
        yield from [each for mistakes in students for each in mistakes] or _one_teacher_each(config)
        for name, baseline in config.baselines.items():
            yield from _known(f"baselines.{name}.model", baseline.model, config.models, "model")
            yield from _known(f"baselines.{name}.recipe", baseline.recipe, config.recipes, "recipe")
            yield from _all_known(f"baselines.{name}.datasets", baseline.datasets, config.datasets, "dataset")


def _memory(config: Config) -> Iterator[str]:
    """Jobs ask for more than they may keep."""
    for stage in stages_of("training", "inference"):
        wanted = config.resources.of(stage)
        kept = config.memory.ram_gib * wanted.processes_per_node
        if wanted.mem_gib is not None and wanted.mem_gib <= kept:
            yield (
                f"resources.{stage}.mem_gib: {wanted.mem_gib:g}, expected more than the {kept:g} GiB of data that such"
                " a job may keep there (memory.ram_gib, for each GPU)"
            )
            return


def _known(key: str, name: str | None, known: Collection[str], kind: str) -> Iterator[str]:
    if name is not None and name not in known:
        listed = f"known: {', '.join(known) or 'none'}" if len(known) <= MOST_LISTED else f"{len(known)} are known"
        yield f"{key}: {name!r} is not the name of a known {kind}; {did_you_mean(name, known)}{listed}"


def _all_known(key: str, names: Iterable[str] | None, known: Collection[str], kind: str) -> Iterator[str]:
    given = list(names or ())
    for name in given:
        yield from _known(key, name, known, kind)
    for name, count in Counter(given).items():
        if count > 1:
            yield f"{key}: {name!r} stands {count} times; once is enough"


def _model(key: str, model: ModelSpec) -> Iterator[str]:
    """The backbone knows it, and a checkpoint is there."""
    if not BACKBONES.knows(model.backbone):
        yield f"{key}.backbone: {model.backbone!r}, expected one of {BACKBONES.names()}, or the full name of a module"
        return
    yield from (f"{key}.{problem}" for problem in load_backbone(model.backbone).problems(model))
    if model.std is not None and min(model.std) <= 0:
        yield f"{key}.std: given {model.std}; each number must be greater than 0"
    if model.registry is not None:
        yield f"{key}.registry: is filled in by the program; leave it out"
    if isinstance(model.weights, Checkpoint):
        if not model.weights.path.is_file():
            yield f"{key}.weights.path: {model.weights.path} is not a file"
        if model.weights.digest is not None:
            yield f"{key}.weights.digest: is filled in by the program; leave it out"


def _uses(config: Config) -> Iterator[tuple[str, str | None, str | None, list[str]]]:
    """The key of each that is trained or taken as it is, its model and recipe, and the datasets that it is used on."""
    for name, teacher in config.teachers.items():
        yield f"teachers.{name}", teacher.model, teacher.recipe, [teacher.dataset]
    for name, joint in config.joint_teachers.items():
        yield f"joint_teachers.{name}", None, joint.recipe, []
    for name, student in config.students.items():
        for target in config.student_targets(student):
            individual = (each.model for each in config.teachers.values() if each.dataset == target)
            yield f"students.{name}", student.model or next(individual, ""), student.recipe, [target]
    for name, baseline in config.baselines.items():
        yield f"baselines.{name}", baseline.model, baseline.recipe, baseline.datasets or list(config.datasets)


def _models(config: Config) -> Iterator[str]:
    """A network fits the datasets that it is used on, and batch norms that training leaves as they are have weights."""
    for key, name, recipe, datasets in _uses(config):
        model = config.models.get(name or "")
        single = [each for each in datasets if _task(config, each) == "single_label"]
        if model is not None and model.label_encoder is not None and single:
            yield f"{key}.model: {name!r} has a label_encoder, but dataset {single[0]!r} is not multi_label"
        yield from _takes(config, f"{key}.model", name, datasets)
        frozen = config.recipes[recipe].freeze_norm if recipe in config.recipes else "none"
        if frozen != "none" and (name is None or (model is not None and model.weights == "scratch")):
            its = "a joint teacher has no given weights" if name is None else f"models.{name}.weights is scratch"
            yield f"{key}.recipe: recipe {recipe!r} has freeze_norm {frozen}, but {its}; expected none"
    for name, joint in config.joint_teachers.items():
        members = [config.teachers[each] for each in config.joint_members(joint) if each in config.teachers]
        for each in members:
            seen = [each.dataset, *config.joint_targets(joint)]
            yield from _takes(config, f"joint_teachers.{name}.teachers", each.model, seen)


def _takes(config: Config, key: str, name: str | None, datasets: list[str]) -> Iterator[str]:
    """A network, which is made for the first one of some datasets, takes the samples of all of them."""
    if name not in config.models or not BACKBONES.knows(config.models[name].backbone):
        return
    backbone = load_backbone(config.models[name].backbone)
    samples = {each: config.datasets[each].samples for each in datasets if each in config.datasets}
    for each, has in samples.items():
        if MODALITIES.module(has.name()) != MODALITIES.module(backbone.MODALITY):
            takes = f"takes samples of modality {backbone.MODALITY}"
            yield f"{key}: {name!r} {takes}, dataset {each!r} has {has.name()}"
        elif why := backbone.misfit(next(iter(samples.values())), has):
            yield f"{key}: {name!r} {why}, which dataset {each!r} has"


def _teachers(config: Config) -> Iterator[str]:
    for name, teacher in config.teachers.items():
        key = f"teachers.{name}"
        yield from _known(f"{key}.dataset", teacher.dataset, config.datasets, "dataset")
        yield from _known(f"{key}.model", teacher.model, config.models, "model")
        yield from _known(f"{key}.recipe", teacher.recipe, config.recipes, "recipe")
        model = config.models.get(teacher.model)
        if teacher.recipe is None and model is not None and model.weights == "scratch":
            yield f"{key}.recipe: null, but models.{teacher.model}.weights is scratch: an untrained teacher is no use"
    for name in ("individual", *config.teachers):
        if name in config.joint_teachers:
            yield f"joint_teachers.{name}: this name is taken; teachers and joint teachers need different names"


def _joint_teachers(config: Config) -> Iterator[str]:
    for name, joint in config.joint_teachers.items():
        key = f"joint_teachers.{name}"
        yield from _all_known(f"{key}.teachers", joint.teachers, config.teachers, "teacher")
        yield from _all_known(f"{key}.targets", joint.targets, config.datasets, "dataset")
        yield from _known(f"{key}.student_model", joint.student_model, config.models, "model")
        yield from _known(f"{key}.cache", joint.cache, config.caches, "cache")
        yield from _known(f"{key}.recipe", joint.recipe, config.recipes, "recipe")
        why = "a joint teacher is trained on embeddings, not on images"
        yield from _mixes_nothing(config, f"{key}.recipe", joint.recipe, why)
        single = [each for each in config.joint_targets(joint) if _task(config, each) == "single_label"]
        if joint.label_encoder is not None and (single or joint.level == "L1"):
            found = f"target {single[0]!r} is not multi_label" if single else "at level L1 there is no map"
            yield f"{key}.label_encoder: given, but {found}; leave it out"
        if joint.scope == "shared" and joint.student_model is not None:
            yield f"{key}.student_model: given, but scope is shared, whose maps fit no single student; leave it out"
        if joint.student_model is None and joint.scope == "per_target" and joint.level != "L1":
            for target in config.joint_targets(joint):
                yield from _has_individual(config, f"{key}.student_model", target)


def _task(config: Config, dataset: str) -> str | None:
    return config.datasets[dataset].task if dataset in config.datasets else None


def _mixes_nothing(config: Config, key: str, name: str, why: str) -> Iterator[str]:
    recipe = config.recipes.get(name)
    for option in ("mixup", "cutmix"):
        if recipe is not None and (alpha := getattr(recipe, option)) > 0:
            yield f"{key}: recipe {name!r} has {option} {alpha:g}, but {why}; leave it out or take another recipe"


def _has_individual(config: Config, key: str, target: str) -> Iterator[str]:
    if target in config.datasets and all(teacher.dataset != target for teacher in config.teachers.values()):
        yield f"{key}: must be given, as dataset {target!r} has no individual teacher to take the model from"


def _student(config: Config, key: str, student: StudentConfig) -> list[str]:
    """Mistakes of its names; where these hold, what its method needs is asked of them, by the variants one by one."""
    problems = list(_named_by(config, key, student))
    for distiller in student.variants().values():
        problems = problems or list(_method(config, key, student.model_copy(update={"distiller": distiller})))
    return problems


def _named_by(config: Config, key: str, student: StudentConfig) -> Iterator[str]:
    """Check that all names of a student exist, and that each of its targets has a teacher and a model."""
    yield from _known(f"{key}.model", student.model, config.models, "model")
    yield from _known(f"{key}.cache", student.cache, config.caches, "cache")
    yield from _known(f"{key}.recipe", student.recipe, config.recipes, "recipe")
    yield from _all_known(f"{key}.targets", student.targets, config.datasets, "dataset")
    if isinstance(student.teacher, dict):
        yield from _all_known(f"{key}.teacher", student.teacher, config.datasets, "dataset")
        yield from _all_known(f"{key}.teacher", set(student.teacher.values()), config.teachers, "teacher")
    elif student.teacher != "individual":
        known = ["individual", *config.joint_teachers]
        yield from _known(f"{key}.teacher", student.teacher, known, "joint teacher")
    joint = config.joint_teacher(student)
    if joint is not None:
        yield from _student_of_joint(config, key, student, joint)
    for target in config.student_targets(student):
        if student.model is None:
            yield from _has_individual(config, f"{key}.model", target)
        if student.teacher == "individual":
            yield from _has_individual(config, f"{key}.teacher", target)
        if isinstance(student.teacher, dict):
            yield from _teaches(config, key, student.teacher, target)


def _one_teacher_each(config: Config) -> Iterator[str]:
    """Students of one experiment have the same individual teacher for a dataset: it is a row of their table."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for name, student in config.students.items():
        experiment = student.experiment or config.experiment
        for dataset, teacher in config.individual_teachers(student).items():
            other, theirs = first.setdefault((experiment, dataset), (name, teacher))
            if theirs != teacher:
                yield (
                    f"students.{name}.teacher: {teacher!r} for {dataset!r}, but {theirs!r} for students.{other} of the"
                    f" same experiment {experiment!r}, whose tables have one individual row; give one of them an"
                    " `experiment` of its own"
                )


def _teaches(config: Config, key: str, teachers: dict[str, str], target: str) -> Iterator[str]:
    if target not in teachers:
        yield f"{key}.teacher: names no teacher for target {target!r}; given: {teachers}"
    elif teachers[target] in config.teachers and config.teachers[teachers[target]].dataset != target:
        trained = config.teachers[teachers[target]].dataset
        yield f"{key}.teacher.{target}: {teachers[target]!r} is trained on {trained!r}, its classes are others"


def _student_of_joint(config: Config, key: str, student: StudentConfig, joint: JointTeacherConfig) -> Iterator[str]:
    if student.level is not None and student.level != joint.level:
        yield f"{key}.level: given {student.level}, but joint teacher {student.teacher!r} is fused at {joint.level}"
    for target in set(config.student_targets(student)) - set(config.joint_targets(joint)):
        yield (
            f"{key}.targets: {target!r} is not among the targets of joint teacher {student.teacher!r}:"
            f" {', '.join(config.joint_targets(joint))}"
        )


def _method(config: Config, key: str, student: StudentConfig) -> Iterator[str]:
    """The method makes sense for the data, and teacher and student have what it compares."""
    joint = config.joint_teacher(student)
    method = parse_distiller(student.distiller)
    targets = [target for target in config.student_targets(student) if target in config.datasets]
    for target in targets:
        task = config.datasets[target].task
        if task not in method.TASKS:
            able = [name for name, each in usable_methods().items() if task in each.TASKS]
            yield f"{key}.distiller.name: {method.name}, but {target!r} is {task}; expected one of {able}"
            return
    if method.NEEDS_LEVEL and joint is None and student.level is None:
        yield f"{key}.level: missing; with an individual teacher say L1 (logits alone) or L2, L3, L4 (maps too)"
        return
    if not method.NEEDS_LEVEL and student.level is not None and joint is None:
        yield f"{key}.level: given {student.level}, but {method.name} says itself what it compares; leave it out"
    if method.REMEMBERS_SAMPLES:
        why = f"{method.name} remembers each image"
        yield from _mixes_nothing(config, f"{key}.recipe", student.recipe, why)
    needs = method.required(student.level if joint is None else joint.level)
    if joint is not None:
        fused = ("L1", *map_levels(joint.level))
        for level in [level for level in needs.levels if level not in fused]:
            yield (
                f"{key}.distiller: {method.name} compares {level}, but joint teacher {student.teacher!r}, fused at"
                f" {joint.level}, has only {', '.join(fused)}"
            )
    if needs.label_embeddings:
        for target in targets:
            yield from _has_label_encoder(config, key, student, target)


def _has_label_encoder(config: Config, key: str, student: StudentConfig, target: str) -> Iterator[str]:
    teacher = config.student_teacher(student, target)
    models = {"student": config.model_or_individual(student.model, target)}
    if teacher in config.teachers:
        models["teacher"] = config.teachers[teacher].model
    elif teacher in config.joint_teachers and config.joint_teachers[teacher].label_encoder is None:
        yield f"joint_teachers.{teacher}.label_encoder: missing; {key}.distiller compares label-wise embeddings"
    for whose, name in models.items():
        if name in config.models and config.models[name].label_encoder is None:
            yield f"models.{name}.label_encoder: missing; {key}.distiller compares label-wise embeddings of the {whose}"
