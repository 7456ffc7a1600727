"""Distil in a training loop of your own: maps, vectors and logits of a teacher, compared by any method."""

import timm
import torch
from torch.utils.data import DataLoader, TensorDataset

import kd

torch.manual_seed(0)
images, labels = torch.rand(256, 3, 64, 64), torch.arange(256) % 10
method = kd.create_method("reviewkd", levels=["L2", "L3"])
names = method.required().names()  # what it compares
teacher = kd.Tapped(timm.create_model("test_resnet", num_classes=10).eval(), names)
student = kd.Tapped(timm.create_model("test_efficientnet", num_classes=10), ["logits", *names])
criterion = kd.DistillationLoss(method, student.shapes(images[:2]), teacher.shapes(images[:2]), samples=len(images))
optimizer = torch.optim.AdamW([*student.parameters(), *criterion.parameters()], lr=1e-3)

for epoch in range(2):
    for inputs, targets in DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True):
        with torch.no_grad():
            wanted = teacher(inputs)
        loss = criterion(student(inputs), wanted, kd.Batch(targets, epoch=epoch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
torch.save(student.module.state_dict(), "student.pt")  # the plain timm model
