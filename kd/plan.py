"""From a config to what is to be built: specs, keys and directories of all artefacts. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kd.config import Config, StudentConfig
from kd.data.options import ground_colour
from kd.data.sources.listing import listing_digest
from kd.data.sources.registry import parse_source, source_module
from kd.digest import code_digests
from kd.distillers.registry import distiller_module
from kd.embeddings.options import CacheOptions
from kd.jobs.errors import UserError
from kd.jobs.job import Job
from kd.models.spec import ARRAYS, Checkpoint, Level, ModelSpec
from kd.options import BaseOptions
from kd.reports import check_reports
from kd.stages import (
    cache_embeddings,
    cache_targets,
    distill_student,
    fetch_weights,
    prepare_dataset,
    train_baseline,
    train_joint_teacher,
    train_teacher,
)
from kd.training.registry import LIVE, STORED
from kd.wishes import EmbeddingWish, TargetWish, Viewing, Wishes

STAGES = (
    "prepare_dataset",
    "fetch_weights",
    "train_teacher",
    "cache_embeddings",
    "train_joint_teacher",
    "cache_targets",
    "distill_student",
    "train_baseline",
)
UNREAD = {"cache_embeddings": cache_embeddings.UNREAD, "cache_targets": cache_targets.UNREAD}
VANILLA = "vanilla"


@dataclass(frozen=True)
class Row:
    """One measured network: where its metrics belong in the tables."""

    experiment: str
    dataset: str
    row: str
    level: str
    seed: int
    job: Job
    variant: str = ""
    """Tells students of one row apart, as `option=value` of a sweep; "" for those that are not of one."""


class Plan:
    """Every artefact of a config: `jobs` by directory, upstream first, and `rows` for the tables.

    Args:
        config: validated.

    Raises:
        UserError: a dataset's source is missing or malformed, two networks would be one row, or reports ask for what
            the run does not have.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.jobs: dict[Path, Job] = {}
        self.rows: list[Row] = []
        self._named: dict[tuple[str, str], Job] = {}
        self._wishes = Wishes(config)
        self._embeddings: dict[EmbeddingWish, Job] = {}
        self._targets: dict[TargetWish, Job] = {}
        for name in config.datasets:
            self._dataset(name)
        for seed in config.seeds:
            for name in config.teachers:
                self._teacher(name, seed)
            for wish in [wish for wish in self._wishes.embeddings if wish.seed == seed]:
                self._cache_embeddings(wish)
            for name in config.joint_teachers:
                self._joint_teacher(name, seed)
            for target_wish in [wish for wish in self._wishes.targets if wish.seed == seed]:
                self._cache_targets(target_wish)
            for name in config.students:
                self._student(name, seed)
            for name in config.baselines:
                self._baseline(name, seed)
        self._individual_rows()
        self._check_rows()
        check_reports(config, self.rows)

    @property
    def folder(self) -> Path:
        """Where tables, figures, index and report lie: each experiment has its own, since their names are the same."""
        return self.config.results / "experiments" / self.config.experiment

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
            task=dataset.task,
            split=dataset.split,
            ground=ground_colour(dataset.ground),
        )
        self._add(name, spec, {}, stage="prepare_dataset", modules=(source_module(dataset.source["type"]),))

    def _teacher(self, name: str, seed: int) -> None:
        teacher = self.config.teachers[name]
        recipe = None if teacher.recipe is None else self.config.recipe(teacher.recipe)
        spec = train_teacher.Spec(model=self._model(teacher.model), recipe=recipe, seed=seed)
        upstream = {"dataset": self._named["prepare_dataset", teacher.dataset]} | self._weights(spec.model)
        self._add(f"{name}-seed{seed}", spec, upstream, stage="train_teacher")

    def _weights(self, model: ModelSpec) -> dict[str, Job]:
        """Pretrained weights that a model starts from, as an upstream."""
        if model.registry is None:
            return {}
        spec = fetch_weights.Spec(architecture=model.architecture, registry=model.registry)
        name = re.sub(r"[^A-Za-z0-9_-]", "_", model.architecture)
        found = self._named.get(("fetch_weights", name))
        return {"weights": found or self._add(name, spec, {}, stage="fetch_weights")}

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
        upstream |= self._weights(spec.model)
        job = self._add(f"{name}-seed{seed}", spec, upstream, stage="train_baseline")
        experiment = baseline.experiment or self.config.experiment
        self.rows += [Row(experiment, each, "joint_baseline", "", seed, job) for each in datasets]

    # Stores: one per teacher, dataset, seed, augmentation and precision, for all who read it.

    def _cache_embeddings(self, wish: EmbeddingWish) -> None:
        demand = self._wishes.embeddings[wish]
        spec = cache_embeddings.Spec(
            dataset=wish.dataset,
            arrays=[name for name in ARRAYS if name in demand.names],
            views=demand.views,
            augmentation=wish.augmentation,
            cache=wish.cache,
            seed=wish.seed,
        )
        upstream = {
            "teacher": self._named["train_teacher", f"{wish.teacher}-seed{wish.seed}"],
            "dataset": self._named["prepare_dataset", wish.dataset],
        }
        name = f"{wish.teacher}-on-{wish.dataset}-seed{wish.seed}"
        self._embeddings[wish] = self._add(name, spec, upstream, stage="cache_embeddings")

    def _cache_targets(self, wish: TargetWish) -> None:
        demand = self._wishes.targets[wish]
        joint = self.config.joint_teachers[wish.joint]
        spec = cache_targets.Spec(
            dataset=wish.dataset,
            level=joint.level,
            teachers=self.config.joint_members(joint),
            arrays=[name for name in ARRAYS if name in demand.names],
            views=demand.views,
            augmentation=wish.augmentation,
            cache=wish.cache,
            seed=wish.seed,
        )
        upstream = {
            "dataset": self._named["prepare_dataset", wish.dataset],
            "joint_teacher": self._joint_job(wish.joint, wish.dataset, wish.seed),
        }
        cache = wish.cache.for_levels((joint.level,))
        for teacher in spec.teachers:
            embeddings = EmbeddingWish(teacher, wish.dataset, wish.seed, wish.augmentation, cache)
            upstream[f"embeddings:{teacher}"] = self._embeddings[embeddings]
        name = f"{wish.joint}-on-{wish.dataset}-seed{wish.seed}"
        self._targets[wish] = self._add(name, spec, upstream, stage="cache_targets")

    def _joint_teacher(self, name: str, seed: int) -> None:
        joint = self.config.joint_teachers[name]
        targets = self.config.joint_targets(joint)
        for group in [targets] if joint.scope == "shared" else [[target] for target in targets]:
            self._joint_teacher_for(name, group, seed)

    def _joint_teacher_for(self, name: str, targets: list[str], seed: int) -> None:
        config, joint = self.config, self.config.joint_teachers[name]
        viewing = self._wishes.of_joint(joint)
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
            label_encoder=joint.label_encoder,
            views=viewing.count,
            live=_live(viewing),
            recipe=viewing.recipe,
            seed=seed,
        )
        upstream = {f"dataset:{target}": self._named["prepare_dataset", target] for target in targets}
        if viewing.count is None:
            upstream |= self._live_teachers(teachers, seed)
        else:
            for target in targets:
                for wish in self._wishes.joint_embeddings(name, target, seed):
                    upstream[f"embeddings:{wish.teacher}:{target}"] = self._embeddings[wish]
        label = self._joint_name(name, targets[0], seed)
        modules = (LIVE,) if viewing.count is None else ()
        job = self._add(label, spec, upstream, stage="train_joint_teacher", modules=modules)
        experiment = joint.experiment or config.experiment
        self.rows += [Row(experiment, target, "joint_teacher", joint.level, seed, job) for target in targets]

    def _live_teachers(self, teachers: list[str], seed: int) -> dict[str, Job]:
        return {f"teacher:{teacher}": self._named["train_teacher", f"{teacher}-seed{seed}"] for teacher in teachers}

    def _student(self, name: str, seed: int) -> None:
        student = self.config.students[name]
        for target in self.config.student_targets(student):
            made: dict[str, Job] = {}  # a value that is swept may be that of the student itself
            for variant, distiller in student.variants().items():
                if str(distiller) not in made:
                    own = student.model_copy(update={"distiller": distiller})
                    made[str(distiller)] = self._student_job(name, own, target, variant, seed)
                self._student_row(student, target, variant, seed, made[str(distiller)])

    def _student_job(self, name: str, student: StudentConfig, target: str, variant: str, seed: int) -> Job:
        config = self.config
        viewing = self._wishes.of_student(student)
        teacher = config.student_teacher(student, target)
        joint = config.joint_teacher(student)
        level = joint.level if joint else student.level
        taught = bool(self._wishes.needs(student).names())  # else it learns from labels alone
        live = taught and viewing.count is None
        behind = config.joint_members(joint) if joint else [teacher]
        spec = distill_student.Spec(
            dataset=target,
            level=level,
            individual=joint is None,
            model=self._student_model(student.model, target),
            distiller=student.distiller,
            views=viewing.count,
            live=_live(viewing) if live else None,
            live_teachers=behind if live else [],
            recipe=viewing.recipe,
            seed=seed,
        )
        upstream = {"dataset": self._named["prepare_dataset", target]} | self._weights(spec.model)
        if live:
            upstream |= self._live_teachers(behind, seed)
            if joint is not None:
                upstream["joint_teacher"] = self._joint_job(teacher, target, seed)
        elif taught and joint is None:
            upstream["targets"] = self._embeddings[self._wishes.embedding_wish(teacher, target, seed, viewing)]
        elif taught:
            upstream["targets"] = self._targets[self._wishes.target_wish(teacher, target, seed, viewing)]
        sources = (LIVE,) if live else (STORED,) if taught else ()
        modules = (distiller_module(student.distiller["name"]), *sources)
        swept = re.sub("[^A-Za-z0-9_]", "_", variant)
        label = "-".join(filter(None, [name, "for", target, swept, f"seed{seed}"]))
        return self._add(label, spec, upstream, stage="distill_student", modules=modules)

    def _student_row(self, student: StudentConfig, target: str, variant: str, seed: int, job: Job) -> None:
        joint = self.config.joint_teacher(student)
        level = joint.level if joint else student.level
        row = _student_row(student.distiller["name"], level, joint=joint is not None)
        shown = "" if row == VANILLA else level or ""
        experiment = student.experiment or self.config.experiment
        self.rows.append(Row(experiment, target, row, shown, seed, job, variant))

    def _joint_job(self, joint: str, target: str, seed: int) -> Job:
        return self._named["train_joint_teacher", self._joint_name(joint, target, seed)]

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
        """The individual teacher of a dataset is a row of every experiment that the dataset is in.

        It is the one that students of the experiment have, else the first one trained on the dataset.
        """
        experiments = dict.fromkeys((row.experiment, row.dataset) for row in self.rows)
        trained = {teacher.dataset for teacher in self.config.teachers.values()}
        experiments |= dict.fromkeys((self.config.experiment, dataset) for dataset in self.config.datasets)
        named = self._named_teachers()
        for experiment, dataset in experiments:
            if dataset in trained:
                teacher = named.get((experiment, dataset)) or self.config.individual(dataset)
                for seed in self.config.seeds:
                    job = self._named["train_teacher", f"{teacher}-seed{seed}"]
                    self.rows.append(Row(experiment, dataset, "individual", "", seed, job))

    def _named_teachers(self) -> dict[tuple[str, str], str]:
        """Individual teachers that students have, by experiment and dataset."""
        return {
            (student.experiment or self.config.experiment, dataset): teacher
            for student in self.config.students.values()
            for dataset, teacher in self.config.individual_teachers(student).items()
        }

    def _check_rows(self) -> None:
        seen: dict[tuple[Any, ...], Job] = {}
        for row in self.rows:
            place = (row.experiment, row.dataset, row.row, row.level, row.variant, row.seed)
            other = seen.setdefault(place, row.job)
            if other != row.job:
                raise UserError(
                    f"config: {other.name} and {row.job.name} would be one row of the tables ({row.experiment},"
                    f" {row.dataset}, {row.row} {row.level} {row.variant}); give one of them another `experiment`"
                )


def _student_row(method: str, level: Level | None, *, joint: bool) -> str:
    """Row of the tables; MLFD's are called as its paper calls them, others by the method.

    Whoever its teacher is, vanilla learns from labels alone.
    """
    if method != "mlfd":
        return f"joint_{method}" if joint and method != VANILLA else method
    if joint:
        return "student"
    return "single_dataset_kd" if level == "L1" else "single_dataset_kd_features"


def _live(viewing: Viewing) -> CacheOptions | None:
    """Of live teachers only the resolution of maps counts; there is nothing to store."""
    if viewing.count is not None:
        return None
    return viewing.cache.model_copy(update={"dtype": "float32", "label_embeddings": "all"})
