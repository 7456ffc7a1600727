"""Measures what README.md and docs say of time, memory and accuracy: `python -m benchmarks`, one: `benchmarks.NAME`."""
