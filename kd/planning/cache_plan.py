"""What joint teachers and students want to read from caches: who sees which views, in which precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kd.config.schema import Config, JointTeacherConfig, StudentConfig, Views
from kd.data.options import Augmentation
from kd.distillers.base import Required
from kd.distillers.registry import parse_distiller
from kd.embeddings.options import CacheOptions
from kd.training.recipe import Recipe


@dataclass(frozen=True)
class ViewPolicy:
    """Which views of the training images a reader sees.

    Attributes:
        count: stored views; None: live, a new one in each epoch.
        recipe: how it is trained; its augmentation makes the views.
        cache: how what teachers see is stored; where they are live, only its resolution counts.
    """

    count: int | None
    recipe: Recipe
    cache: CacheOptions

    def store(self, teacher: str, dataset: str, seed: int, cache: CacheOptions | None = None) -> Store:
        """The store of an individual or joint teacher that such a reader reads, with `cache` in another precision."""
        return Store(teacher, dataset, seed, self.recipe.augmentation, cache or self.cache)


@dataclass(frozen=True)
class Store:
    """What one individual or joint teacher makes of one dataset's views, whatever arrays and however many views."""

    teacher: str
    dataset: str
    seed: int
    augmentation: Augmentation | None
    cache: CacheOptions


@dataclass
class StoreRequest:
    """The union of what all readers of a store want."""

    names: set[str] = field(default_factory=set)
    views: int = 1


class CachePlan:
    """All stores that a config needs, with the arrays and views that their readers want.

    Attributes:
        embeddings: requests by store of an individual teacher, in the order of the config.
        targets: the same of joint teachers.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.embeddings: dict[Store, StoreRequest] = {}
        self.targets: dict[Store, StoreRequest] = {}
        for seed in config.seeds:
            for name, joint in config.joint_teachers.items():
                for target in config.joint_targets(joint):
                    stores, policy = self.joint_embeddings(name, target, seed), self.of_joint(joint)
                    _request(self.embeddings, stores, (joint.level,), policy)
            for student in config.students.values():
                for distiller in student.variants().values():
                    for target in config.student_targets(student):
                        self._student(student.model_copy(update={"distiller": distiller}), target, seed)

    def _student(self, student: StudentConfig, target: str, seed: int) -> None:
        policy, names = self.of_student(student), self.required(student).names()
        if policy.count is None or not names:
            return
        teacher = self.config.student_teacher(student, target)
        joint = self.config.joint_teacher(student)
        read = self.embeddings if joint is None else self.targets
        _request(read, [policy.store(teacher, target, seed)], names, policy)
        if joint is not None:
            _request(self.embeddings, self.joint_embeddings(teacher, target, seed, policy), (joint.level,), policy)

    def of_joint(self, joint: JointTeacherConfig) -> ViewPolicy:
        """The views that a joint teacher is trained on."""
        return self._viewing(joint.views, joint.recipe, joint.cache, (joint.level,))

    def of_student(self, student: StudentConfig) -> ViewPolicy:
        """The views that a student is trained on; by default views and precision are those of its joint teacher."""
        joint, names = self.config.joint_teacher(student), self.required(student).names()
        views, cache = student.views, student.cache
        if joint is not None:
            return self._viewing(views or joint.views, student.recipe, cache or joint.cache, (joint.level,))
        return self._viewing(views or (1 if names else "live"), student.recipe, cache, names)

    def required(self, student: StudentConfig) -> Required:
        """The arrays of its teacher that a student is compared with."""
        joint = self.config.joint_teacher(student)
        return parse_distiller(student.distiller).required(student.level if joint is None else joint.level)

    def _viewing(self, views: Views, recipe_name: str, cache: str | None, levels: Sequence[str]) -> ViewPolicy:
        recipe = self.config.recipe(recipe_name)
        if views == "none":  # everybody sees the images themselves
            recipe = recipe.model_copy(update={"augmentation": None})
        options = CacheOptions()
        if cache is not None:  # who reads no label embeddings shares a store with who does
            options = self.config.caches[cache].for_levels((*levels, "label_embeddings"))
        if views == "live":
            return ViewPolicy(None, recipe, options)
        # Without augmentation all views are the same, and one is enough.
        return ViewPolicy(1 if views == "none" or recipe.augmentation is None else views, recipe, options)

    def joint_embeddings(self, joint: str, target: str, seed: int, policy: ViewPolicy | None = None) -> list[Store]:
        """Embeddings of a target that a joint teacher reads, in its order of teachers; by default of its own views."""
        options = self.config.joint_teachers[joint]
        policy = policy or self.of_joint(options)
        cache = policy.cache.for_levels((options.level,))
        return [policy.store(teacher, target, seed, cache) for teacher in self.config.joint_members(options)]


def _request(
    requests: dict[Store, StoreRequest], stores: list[Store], names: Sequence[str], policy: ViewPolicy
) -> None:
    for store in stores if policy.count is not None else ():
        request = requests.setdefault(store, StoreRequest())
        request.names.update(names)
        request.views = max(request.views, policy.count or 1)
