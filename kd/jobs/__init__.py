"""Processes that run stages: their start, GPUs, logs, progress, and how they are stopped."""
