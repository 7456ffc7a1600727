"""From a config to what is to be built: specs, keys and directories of all artefacts. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kd.artefacts.code import code_digests
from kd.artefacts.job import Job
from kd.artefacts.manifest import read_manifest
from kd.common.errors import UserError, did_you_mean
from kd.common.options import BaseOptions
from kd.config.include import overlay
from kd.config.load import load_config, read_config, read_settings
from kd.config.schema import Config, StudentConfig
from kd.data.modalities.base import MODALITIES
from kd.data.sources.base import SOURCES, Source, archives_of, parse_source
from kd.data.sources.files import files_fingerprint
from kd.distillers.registry import METHODS
from kd.embeddings.options import CacheOptions
from kd.models.backbones.base import BACKBONES
from kd.models.spec import ARRAYS, Checkpoint, ModelSpec
from kd.planning.cache_plan import CachePlan, Store, ViewPolicy
from kd.planning.report_plan import VANILLA, check_rows, individual_rows, plan_reports, student_method
from kd.reporting.base import Row, Run
from kd.reporting.registry import load_report
from kd.stages import (
    cache_embeddings,
    cache_targets,
    distill_student,
    fetch_dataset,
    fetch_weights,
    prepare_dataset,
    train_baseline,
    train_joint_teacher,
    train_teacher,
)
from kd.stages.registry import STAGES
from kd.training.recipe import LIVE, STORED


class Plan:
    """Every artefact of a config: `jobs` by directory, upstream first, `rows` for the tables, and `caches`.

    Raises:
        UserError: a dataset's source is missing or malformed, two networks would be one row, or reports ask for what
            the run does not have.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.jobs: dict[Path, Job] = {}
        self.rows: list[Row] = []
        self._named: dict[tuple[str, str], Job] = {}
        self._opened_by: dict[Path, tuple[str, ...]] = {}
        self.caches = CachePlan(config)
        self._embeddings: dict[Store, Job] = {}
        self._targets: dict[Store, Job] = {}
        problems = [problem for name in config.datasets if (problem := self._dataset(name))]
        if problems:
            raise UserError("\n".join(problems))
        for seed in config.seeds:
            for name in config.teachers:
                self._teacher(name, seed)
            for store in [store for store in self.caches.embeddings if store.seed == seed]:
                self._cache_embeddings(store)
            for name in config.joint_teachers:
                self._joint_teacher(name, seed)
            for store in [store for store in self.caches.targets if store.seed == seed]:
                self._cache_targets(store)
            for name in config.students:
                self._student(name, seed)
            for name in config.baselines:
                self._baseline(name, seed)
        self.rows += individual_rows(config, self.rows, self._named)
        check_rows(self.rows)
        for spec, upstream in plan_reports(self.run(), config.reports):  # of everything that was planned before them
            name = f"{spec.report}-of-{re.sub('[^A-Za-z0-9_-]', '_', spec.experiment)}"
            self._add(name, spec, upstream, stage=spec.kind, modules=[load_report(spec.kind, spec.report).__module__])

    @property
    def folder(self) -> Path:
        """The folder of this experiment's tables, figures, index and report."""
        return self.config.results / "experiments" / self.config.experiment

    def stage(self, stage: str) -> list[Job]:
        """All jobs of a stage."""
        return [job for job in self.jobs.values() if job.stage == stage]

    def _add(
        self, name: str, spec: BaseOptions, upstream: dict[str, Job], *, stage: str, modules: Sequence[str] = ()
    ) -> Job:
        """Add an artefact; `modules` are those that its spec names, beside the stage, its modality and its backbone."""
        opened_by = _opened_by(spec)
        if STAGES[stage].work != "reporting":  # what it makes of them is for its own module to say
            own = () if STAGES[stage].work == "decoding" else opened_by  # which packs, and views nothing
            inherited = (self._opened_by[up.directory] for up in upstream.values())
            modules = (*modules, *own, *(each for found in inherited for each in found))
        job = Job.make(
            self.config.results,
            stage,
            name,
            spec=spec.model_dump(mode="json"),
            code=code_digests(STAGES[stage].module.__name__, *sorted(set(modules))),
            upstream={role: up.as_upstream(STAGES[stage].unread_of(up.stage)) for role, up in upstream.items()},
        )
        self.jobs[job.directory] = self._named[stage, name] = job
        self._opened_by[job.directory] = opened_by
        return job

    def _dataset(self, name: str) -> str:
        """Plan a dataset; what is wrong with its source, or ""."""
        dataset = self.config.datasets[name]
        source, options = parse_source(dataset.source)
        upstream = self._archives(dataset.source)
        try:
            fingerprint = {} if upstream else source.fingerprint(options)
        except UserError as error:
            return f"datasets.{name}: {error}{_how_to_get(source, options)}"
        spec = prepare_dataset.Spec(
            name=name,
            source=dataset.source,
            fingerprint=fingerprint,
            modality=dataset.samples.name(),
            sample=dataset.samples.model_dump(mode="json"),
            task=dataset.task,
            split=dataset.split,
        )
        from_source = SOURCES.module(dataset.source["type"])  # where it is downloaded from does not count
        # A module need not define CHANNELS where it is 3.
        own = ["read", *["CHANNELS"] * (source.CHANNELS == 1)]
        modules = (*(f"{from_source}:{each}" for each in own), f"{MODALITIES.module(spec.modality)}:Samples")
        self._add(name, spec, upstream, stage="prepare_dataset", modules=modules)
        return ""

    def _archives(self, source: dict[str, Any]) -> dict[str, Job]:
        """What a source is downloaded as, as an upstream; nothing where the config says where its files are."""
        archives = {each.file_name: each for each in archives_of(source["type"])}
        if not archives or source["root"] is not None:
            return {}
        spec = fetch_dataset.Spec(
            checksums={name: each.checksum for name, each in archives.items()},
            addresses={name: each.address for name, each in archives.items()},
            bytes={name: each.bytes for name, each in archives.items()},
        )
        name = re.sub(r"[^A-Za-z0-9_-]", "_", source["type"])
        found = self._named.get(("fetch_dataset", name))
        return {"archives": found or self._add(name, spec, {}, stage="fetch_dataset")}

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

    def _cache_embeddings(self, store: Store) -> None:
        request = self.caches.embeddings[store]
        spec = cache_embeddings.Spec(
            dataset=store.dataset,
            arrays=[name for name in ARRAYS if name in request.names],
            views=request.views,
            augmentation=store.augmentation,
            cache=store.cache,
            seed=store.seed,
        )
        upstream = {
            "teacher": self._named["train_teacher", f"{store.teacher}-seed{store.seed}"],
            "dataset": self._named["prepare_dataset", store.dataset],
        }
        name = f"{store.teacher}-on-{store.dataset}-seed{store.seed}"
        self._embeddings[store] = self._add(name, spec, upstream, stage="cache_embeddings")

    def _cache_targets(self, store: Store) -> None:
        request = self.caches.targets[store]
        joint = self.config.joint_teachers[store.teacher]
        spec = cache_targets.Spec(
            dataset=store.dataset,
            level=joint.level,
            teachers=self.config.joint_members(joint),
            arrays=[name for name in ARRAYS if name in request.names],
            views=request.views,
            augmentation=store.augmentation,
            cache=store.cache,
            seed=store.seed,
        )
        upstream = {
            "dataset": self._named["prepare_dataset", store.dataset],
            "joint_teacher": self._joint_job(store.teacher, store.dataset, store.seed),
        }
        cache = store.cache.for_levels((joint.level,))
        for teacher in spec.teachers:
            upstream[f"embeddings:{teacher}"] = self._embeddings[replace(store, teacher=teacher, cache=cache)]
        name = f"{store.teacher}-on-{store.dataset}-seed{store.seed}"
        self._targets[store] = self._add(name, spec, upstream, stage="cache_targets")

    def _joint_teacher(self, name: str, seed: int) -> None:
        joint = self.config.joint_teachers[name]
        targets = self.config.joint_targets(joint)
        for group in [targets] if joint.scope == "shared" else [[target] for target in targets]:
            self._joint_teacher_for(name, group, seed)

    def _joint_teacher_for(self, name: str, targets: list[str], seed: int) -> None:
        config, joint = self.config, self.config.joint_teachers[name]
        policy = self.caches.of_joint(joint)
        teachers = config.joint_members(joint)
        spec = train_joint_teacher.Spec(
            **dict(config.joint_options(joint, targets[0])),
            teachers=teachers,
            targets=targets,
            views=policy.count,
            live=_live(policy),
            recipe=policy.recipe,
            seed=seed,
        )
        upstream = {f"dataset:{target}": self._named["prepare_dataset", target] for target in targets}
        if policy.count is None:
            upstream |= self._live_teachers(teachers, seed)
        else:
            for target in targets:
                for store in self.caches.joint_embeddings(name, target, seed):
                    upstream[f"embeddings:{store.teacher}:{target}"] = self._embeddings[store]
        label = self._joint_name(name, targets[0], seed)
        shaped = () if spec.student is None else (BACKBONES.module(spec.student.backbone),)
        modules = (*shaped, *((LIVE,) if policy.count is None else ()))
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
        policy = self.caches.of_student(student)
        teacher = config.student_teacher(student, target)
        joint = config.joint_teacher(student)
        level = joint.level if joint else student.level
        taught = bool(self.caches.required(student).names())  # else it learns from labels alone
        live = taught and policy.count is None
        behind = config.joint_members(joint) if joint else [teacher]
        spec = distill_student.Spec(
            dataset=target,
            level=level,
            individual=joint is None,
            model=self._model(config.model_or_individual(student.model, target)),
            distiller=student.distiller,
            views=policy.count,
            live=_live(policy) if live else None,
            live_teachers=behind if live else [],
            recipe=policy.recipe,
            seed=seed,
        )
        upstream = {"dataset": self._named["prepare_dataset", target]} | self._weights(spec.model)
        if live:
            upstream |= self._live_teachers(behind, seed)
            if joint is not None:
                upstream["joint_teacher"] = self._joint_job(teacher, target, seed)
        elif taught:
            stores = self._targets if joint else self._embeddings
            upstream["targets"] = stores[policy.store(teacher, target, seed)]
        sources = (LIVE,) if live else (STORED,) if taught else ()
        modules = (METHODS.module(student.distiller["name"]), *sources)
        swept = re.sub("[^A-Za-z0-9_]", "_", variant)
        label = "-".join(filter(None, [name, "for", target, swept, f"seed{seed}"]))
        return self._add(label, spec, upstream, stage="distill_student", modules=modules)

    def _student_row(self, student: StudentConfig, target: str, variant: str, seed: int, job: Job) -> None:
        joint = self.config.joint_teacher(student)
        level = joint.level if joint else student.level
        method = student_method(student.distiller["name"], level, joint=joint is not None)
        shown = "" if method == VANILLA else level or ""
        experiment = student.experiment or self.config.experiment
        self.rows.append(Row(experiment, target, method, shown, seed, job, variant))

    def _joint_job(self, joint: str, target: str, seed: int) -> Job:
        return self._named["train_joint_teacher", self._joint_name(joint, target, seed)]

    def _joint_name(self, name: str, target: str, seed: int) -> str:
        """The name of the joint teacher that serves a target: scope shared has one for all."""
        shared = self.config.joint_teachers[name].scope == "shared"
        return f"{name}-seed{seed}" if shared else f"{name}-for-{target}-seed{seed}"

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
        weights = model.weights.model_copy(update={"digest": files_fingerprint(path.parent, files)})
        return model.model_copy(update={"weights": weights})

    def run(self) -> Run:
        """All artefacts but tables and figures, for these to report on."""
        config = self.config
        return Run(
            experiment=config.experiment,
            datasets=list(config.datasets),
            seeds=config.seeds,
            selection=config.reports.selection,
            title=config.reports.title,
            format=config.reports.format,
            jobs={directory: job for directory, job in self.jobs.items() if not STAGES[job.stage].follows},
            rows=self.rows,
            read=read_manifest,
        )


def _opened_by(spec: BaseOptions) -> tuple[str, ...]:
    """Modules by which whoever opens an artefact works with it: that of its modality or backbone."""
    if isinstance(spec, prepare_dataset.Spec):
        return (MODALITIES.module(spec.modality),)
    model = getattr(spec, "model", None)
    return (BACKBONES.module(model.backbone),) if isinstance(model, ModelSpec) else ()


def _how_to_get(source: Source, options: Any) -> str:
    """Where the data of a source come from, if its folder is missing; "" if it is there, or nobody knows."""
    if Path(getattr(options, "root", None) or ".").is_dir():
        return ""
    by_hand = getattr(source, "BY_HAND", "")
    if by_hand:
        return f"; {by_hand}"
    return "; or leave out source.root, and the target `prefetch` downloads it" if hasattr(source, "ARCHIVES") else ""


def _live(policy: ViewPolicy) -> CacheOptions | None:
    """The cache options that count for live teachers: only the resolution of maps, since nothing is stored."""
    if policy.count is not None:
        return None
    return policy.cache.model_copy(update={"dtype": "float32", "label_embeddings": "all"})


def plan_of(configfile: Path, settings: Sequence[str] = ()) -> Plan:
    """The plan of a config file, and of settings that win over it: KEY=VALUE, as of snakemake's `--config`.

    Raises:
        UserError: the file cannot be read, or the config is wrong.
    """
    return Plan(load_config(overlay(read_config(configfile), read_settings(settings))))


def find_job(plan: Plan, name: str) -> Job:
    """The job of that name, as in its index.csv: NAME, STAGE/NAME or STAGE/NAME/KEY.

    Raises:
        UserError: the config has none, or several, such as stores of one teacher in two precisions.
    """
    full = {f"{job.stage}/{job.name}/{job.key}": job for job in plan.jobs.values()}
    found = {title: job for title, job in full.items() if name in (title, f"{job.stage}/{job.name}", job.name)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise UserError(f"{name}: is the name of several, say which: {', '.join(found)}")
    hint = did_you_mean(name, [each for job in full.values() for each in (f"{job.stage}/{job.name}", job.name)])
    raise UserError(f"{name}: the config has no artefact of this name; {hint}{plan.folder}/index.csv lists all")
