"""The public names of this package, all of them: `import kd`, then `kd.NAME`.

Networks: `Network`, `LabelEncoderOptions`, `create_network`, `load_network`, `save_network`, `JointTeacher`,
`JointConfig`, `FusedTeacher`, `load_joint_teacher`, `save_joint_teacher`, and `Tapped`, for which any module will do.
Caches: `cache_embeddings`, `cache_targets`, `Cache`, `Views`.
Methods: `methods`, `create_method`, `Distiller`, `Required`, `Batch`, `DistillationLoss`.
Trainings: `Recipe`, `train_joint_teacher`, `distill_student`.
Errors of a user: `UserError`.
"""

from __future__ import annotations

from kd.common.errors import UserError
from kd.distillers.base import Batch, Distiller, Required
from kd.distillers.criterion import DistillationLoss
from kd.distillers.registry import create_method, methods
from kd.embeddings.cache import Cache, Views, cache_embeddings, cache_targets
from kd.models.joint import FusedTeacher, JointConfig, JointTeacher, load_joint_teacher, save_joint_teacher
from kd.models.network import Network
from kd.models.spec import LabelEncoderOptions
from kd.models.taps import Tapped
from kd.models.weights import create_network, load_network, save_network
from kd.training.library import distill_student, train_joint_teacher
from kd.training.recipe import Recipe

__all__ = [
    "Batch",
    "Cache",
    "DistillationLoss",
    "Distiller",
    "FusedTeacher",
    "JointConfig",
    "JointTeacher",
    "LabelEncoderOptions",
    "Network",
    "Recipe",
    "Required",
    "Tapped",
    "UserError",
    "Views",
    "cache_embeddings",
    "cache_targets",
    "create_method",
    "create_network",
    "distill_student",
    "load_joint_teacher",
    "load_network",
    "methods",
    "save_joint_teacher",
    "save_network",
    "train_joint_teacher",
]
