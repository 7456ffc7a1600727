"""From a config to what is to be built: specs, keys and directories of all artefacts. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kd.config import Config, Views
from kd.data.options import Augmentation
from kd.data.sources.listing import listing_digest
from kd.data.sources.registry import parse_source, source_module
from kd.digest import code_digests
from kd.distillers.registry import distiller_module
from kd.jobs.errors import UserError
from kd.jobs.job import Job
from kd.models.spec import LEVELS, Checkpoint, Level, ModelSpec, cached_levels
from kd.options import BaseOptions
from kd.stages import (
    cache_embeddings,
    distill_student,
    prepare_dataset,
    train_baseline,
    train_joint_teacher,
    train_teacher,
)
from kd.training.recipe import Recipe

STAGES = (
    "prepare_dataset",
    "train_teacher",
    "cache_embeddings",
    "train_joint_teacher",
    "distill_student",
    "train_baseline",
)
# Fields of a spec that readers of the artefact do not depend on. They read the levels and as many views as
# their own spec says: so a joint teacher at another level, or a student with more views, enlarges a store
# and leaves valid everything that was trained on it.
UNREAD = {"cache_embeddings": ("levels", "views")}


@dataclass(frozen=True)
class Row:
    """One measured network: where its metrics belong in the tables."""

    experiment: str
    dataset: str
    row: str
    level: str
    seed: int
    job: Job


@dataclass
class _Demand:
    """What the joint teachers and students together want of one teacher on one dataset."""

    levels: set[Level] = field(default_factory=set)
    views: int = 1


@dataclass(frozen=True)
class _Wish:
    """Embeddings that one joint teacher or student reads."""

    teacher: str
    dataset: str
    seed: int
    augmentation: Augmentation | None


class Plan:
    """Every artefact of a config: `jobs` by directory, upstream first, and `rows` for the tables.

    Args:
        config: validated.

    Raises:
        UserError: a dataset's source is missing or malformed.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.jobs: dict[Path, Job] = {}
        self.rows: list[Row] = []
        self._named: dict[tuple[str, str], Job] = {}
        self._stores: dict[_Wish, Job] = {}
        self._demands: dict[_Wish, _Demand] = {}
        self._collect_demands()
        for name in config.datasets:
            self._dataset(name)
        for seed in config.seeds:
            for name in config.teachers:
                self._teacher(name, seed)
            for wish in [wish for wish in self._demands if wish.seed == seed]:
                self._embeddings(wish)
            for name in config.joint_teachers:
                self._joint_teacher(name, seed)
            for name in config.students:
                self._student(name, seed)
            for name in config.baselines:
                self._baseline(name, seed)
        self._individual_rows()

    def stage(self, stage: str) -> list[Job]:
        """All jobs of a stage."""
        return [job for job in self.jobs.values() if job.stage == stage]

    def _add(
        self,
        name: str,
        spec: BaseOptions,
        upstream: dict[str, Job],
        *,
        stage: str,
        modules: tuple[str, ...] = (),
    ) -> Job:
        """Add one artefact, made by its stage and by further `modules` that its spec names."""
        job = Job.make(
            self.config.results,
            stage,
            name,
            spec=spec.model_dump(mode="json"),
            code=code_digests(f"kd.stages.{stage}", *modules),
            upstream={role: up.as_upstream(UNREAD.get(up.stage, ())) for role, up in upstream.items()},
        )
        self.jobs[job.directory] = self._named[stage, name] = job
        return job

    def _dataset(self, name: str) -> None:
        dataset = self.config.datasets[name]
        source, options = parse_source(dataset.source)
        try:
            fingerprint = source.fingerprint(options)
        except UserError as error:
            raise UserError(f"datasets.{name}: {error}") from error
        size = dataset.image_size
        spec = prepare_dataset.Spec(
            name=name,
            source=dataset.source,
            fingerprint=fingerprint,
            image_size=(size, size) if isinstance(size, int) else size,
            resize=dataset.resize,
            split=dataset.split,
        )
        self._add(name, spec, {}, stage="prepare_dataset", modules=(source_module(dataset.source["type"]),))

    def _teacher(self, name: str, seed: int) -> None:
        teacher = self.config.teachers[name]
        recipe = None if teacher.recipe is None else self.config.recipe(teacher.recipe)
        spec = train_teacher.Spec(model=self._model(teacher.model), recipe=recipe, seed=seed)
        upstream = {"dataset": self._named["prepare_dataset", teacher.dataset]}
        self._add(f"{name}-seed{seed}", spec, upstream, stage="train_teacher")

    def _baseline(self, name: str, seed: int) -> None:
        baseline = self.config.baselines[name]
        datasets = baseline.datasets or list(self.config.datasets)
        spec = train_baseline.Spec(
            datasets=datasets,
            model=self._model(baseline.model),
            recipe=self.config.recipe(baseline.recipe),
            seed=seed,
        )
        upstream = {f"dataset:{each}": self._named["prepare_dataset", each] for each in datasets}
        job = self._add(f"{name}-seed{seed}", spec, upstream, stage="train_baseline")
        experiment = baseline.experiment or self.config.experiment
        self.rows += [Row(experiment, each, "joint_baseline", "", seed, job) for each in datasets]

    # Embeddings: one store per teacher, dataset, seed and augmentation, for all who read it.

    def _collect_demands(self) -> None:
        config = self.config
        for seed in config.seeds:
            for joint in config.joint_teachers.values():
                recipe = self._recipe(joint.recipe, joint.views)
                for target in config.joint_targets(joint):
                    for teacher in config.joint_members(joint):
                        self._demand(teacher, target, seed, recipe, joint.views, (joint.level,))
            for name, student in config.students.items():
                views = self._student_views(name)
                recipe = self._recipe(student.recipe, views)
                for target in config.student_targets(student):
                    level, individual, teachers = self._student_teachers(name, target)
                    levels = cached_levels(level, individual=individual)
                    for teacher in teachers:
                        self._demand(teacher, target, seed, recipe, views, levels)

    def _demand(
        self, teacher: str, dataset: str, seed: int, recipe: Recipe, views: Views, levels: tuple[Level, ...]
    ) -> None:
        demand = self._demands.setdefault(_Wish(teacher, dataset, seed, recipe.augmentation), _Demand())
        demand.levels.update(levels)
        demand.views = max(demand.views, _view_count(views, recipe))

    def _recipe(self, name: str, views: Views) -> Recipe:
        """A recipe for training on cached views; `none`: everybody sees the pictures themselves."""
        recipe = self.config.recipe(name)
        return recipe.model_copy(update={"augmentation": None}) if views == "none" else recipe

    def _embeddings(self, wish: _Wish) -> None:
        demand = self._demands[wish]
        spec = cache_embeddings.Spec(
            levels=[level for level in LEVELS if level in demand.levels],
            views=demand.views,
            augmentation=wish.augmentation,
            seed=wish.seed,
        )
        name = f"{wish.teacher}-on-{wish.dataset}-seed{wish.seed}"
        self._stores[wish] = self._add(name, spec, self._embedding_upstream(wish), stage="cache_embeddings")

    def _embedding_upstream(self, wish: _Wish) -> dict[str, Job]:
        return {
            "teacher": self._named["train_teacher", f"{wish.teacher}-seed{wish.seed}"],
            "dataset": self._named["prepare_dataset", wish.dataset],
        }

    def _joint_teacher(self, name: str, seed: int) -> None:
        joint = self.config.joint_teachers[name]
        targets = self.config.joint_targets(joint)
        for group in [targets] if joint.scope == "shared" else [[target] for target in targets]:
            self._joint_teacher_for(name, group, seed)

    def _joint_teacher_for(self, name: str, targets: list[str], seed: int) -> None:
        config, joint = self.config, self.config.joint_teachers[name]
        recipe = self._recipe(joint.recipe, joint.views)
        teachers = config.joint_members(joint)
        student = None
        if joint.scope == "per_target" and joint.level != "L1":
            model = self._student_model(joint.student_model, targets[0])
            student = model.model_copy(update={"weights": "scratch", "registry": None})  # only its shapes matter
        spec = train_joint_teacher.Spec(
            level=joint.level,
            teachers=teachers,
            targets=targets,
            student=student,
            width=joint.width,
            dropout=joint.dropout,
            views=_view_count(joint.views, recipe),
            recipe=recipe,
            seed=seed,
        )
        upstream = {f"dataset:{target}": self._named["prepare_dataset", target] for target in targets}
        for target in targets:
            for teacher in teachers:
                wish = _Wish(teacher, target, seed, recipe.augmentation)
                upstream[f"embeddings:{teacher}:{target}"] = self._stores[wish]
        label = self._joint_name(name, targets[0], seed)
        job = self._add(label, spec, upstream, stage="train_joint_teacher")
        experiment = joint.experiment or config.experiment
        self.rows += [Row(experiment, target, "joint_teacher", joint.level, seed, job) for target in targets]

    def _student(self, name: str, seed: int) -> None:
        for target in self.config.student_targets(self.config.students[name]):
            self._student_for(name, target, seed)

    def _student_for(self, name: str, target: str, seed: int) -> None:
        config, student = self.config, self.config.students[name]
        views = self._student_views(name)
        recipe = self._recipe(student.recipe, views)
        level, individual, teachers = self._student_teachers(name, target)
        spec = distill_student.Spec(
            dataset=target,
            level=level,
            teachers=teachers,
            individual=individual,
            model=self._student_model(student.model, target),
            distiller=student.distiller,
            views=_view_count(views, recipe),
            recipe=recipe,
            seed=seed,
        )
        upstream = {
            "dataset": self._named["prepare_dataset", target],
            "teacher": self._teacher_job(config.student_teacher(student, target), target, seed),
        }
        for teacher in teachers:
            upstream[f"embeddings:{teacher}"] = self._stores[_Wish(teacher, target, seed, recipe.augmentation)]
        job = self._add(
            f"{name}-for-{target}-seed{seed}",
            spec,
            upstream,
            stage="distill_student",
            modules=(distiller_module(student.distiller["name"]),),
        )
        row = "student"
        if individual:
            row = "single_dataset_kd" if level == "L1" else "single_dataset_kd_features"
        self.rows.append(Row(student.experiment or config.experiment, target, row, level, seed, job))

    def _student_teachers(self, name: str, target: str) -> tuple[Level, bool, list[str]]:
        """Level, whether the teacher is an individual one, and the individual teachers behind it."""
        student = self.config.students[name]
        teacher = self.config.student_teacher(student, target)
        if teacher in self.config.joint_teachers:
            joint = self.config.joint_teachers[teacher]
            return joint.level, False, self.config.joint_members(joint)
        assert student.level is not None
        return student.level, True, [teacher]

    def _student_views(self, name: str) -> Views:
        student = self.config.students[name]
        if student.views is not None:
            return student.views
        joint = self.config.joint_teachers.get(student.teacher) if isinstance(student.teacher, str) else None
        return joint.views if joint is not None else 1

    def _teacher_job(self, teacher: str, target: str, seed: int) -> Job:
        if teacher in self.config.joint_teachers:
            return self._named["train_joint_teacher", self._joint_name(teacher, target, seed)]
        return self._named["train_teacher", f"{teacher}-seed{seed}"]

    def _joint_name(self, name: str, target: str, seed: int) -> str:
        """What a joint teacher is called that serves a target: scope shared has one for all."""
        shared = self.config.joint_teachers[name].scope == "shared"
        return f"{name}-seed{seed}" if shared else f"{name}-for-{target}-seed{seed}"

    def _student_model(self, name: str | None, target: str) -> ModelSpec:
        """A model by name, or that of the target's individual teacher."""
        return self._model(name or self.config.teachers[self.config.individual(target)].model)

    def _model(self, name: str) -> ModelSpec:
        """A model, with what identifies the weights that it brings."""
        model = self.config.models[name]
        if model.weights == "pretrained":
            return model.model_copy(update={"registry": f"timm=={version('timm')}"})
        if not isinstance(model.weights, Checkpoint):
            return model
        path = model.weights.path
        # A checkpoint of this project has its network.json beside it, which says what its input is normalised with.
        files = [each for each in (path, path.parent / "network.json") if each.is_file()]
        weights = model.weights.model_copy(update={"digest": listing_digest(path.parent, files)})
        return model.model_copy(update={"weights": weights})

    def _individual_rows(self) -> None:
        """The individual teacher of a dataset is the reference in every experiment that the dataset is in."""
        experiments = dict.fromkeys((row.experiment, row.dataset) for row in self.rows)
        trained = {teacher.dataset for teacher in self.config.teachers.values()}
        experiments |= dict.fromkeys((self.config.experiment, dataset) for dataset in self.config.datasets)
        for experiment, dataset in experiments:
            if dataset in trained:
                for seed in self.config.seeds:
                    job = self._named["train_teacher", f"{self.config.individual(dataset)}-seed{seed}"]
                    self.rows.append(Row(experiment, dataset, "individual", "", seed, job))
        self._check_rows()

    def _check_rows(self) -> None:
        seen: dict[tuple[Any, ...], Job] = {}
        for row in self.rows:
            place = (row.experiment, row.dataset, row.row, row.level, row.seed)
            other = seen.setdefault(place, row.job)
            if other != row.job:
                raise UserError(
                    f"config: {other.name} and {row.job.name} would be one row of the tables ({row.experiment},"
                    f" {row.dataset}, {row.row} {row.level}); give one of them another `experiment`"
                )


def _view_count(views: Views, recipe: Recipe) -> int:
    """Without augmentation all views are the same, and one is enough."""
    return 1 if views == "none" or recipe.augmentation is None else views
