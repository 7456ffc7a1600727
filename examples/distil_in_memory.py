"""Distil a student of your own from two timm teachers, with MLFD and with DKD, in the loop of this package."""

import tempfile
from pathlib import Path

import timm
import torch
from torch import nn
from torch.utils.data import DataLoader

import kd

torch.manual_seed(0)
folder = Path(tempfile.mkdtemp())
images, labels = torch.rand(256, 3, 32, 32), torch.arange(256) % 10
teachers = [timm.create_model(name, num_classes=10) for name in ("test_resnet", "test_efficientnet")]
student = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
recipe = kd.Recipe(lr=1e-3, epochs=2, batch_size=64, selection="last")
train = DataLoader(kd.Views(images, labels), batch_size=64, shuffle=True)

# MLFD: a joint teacher of what both teachers see, and its targets, cached.
caches = [kd.cache_embeddings(folder / f"L1-{n}", kd.Tapped(each, ["L1"]), images) for n, each in enumerate(teachers)]
joint = kd.train_joint_teacher(caches, labels, recipe)
targets = kd.cache_targets(folder / "targets", joint, caches)
print("cached targets of sample 7:", kd.Cache(folder / "targets").read([7])["logits"].shape)
print("mlfd:", kd.distill_student(student, targets, train, "mlfd", recipe, level="L1")[-1]["loss"])

# DKD: from one teacher, which looks at every batch.
print("dkd:", kd.distill_student(student, teachers[0], train, "dkd", recipe)[-1]["loss"])
