"""Distillation methods; one file per method."""
