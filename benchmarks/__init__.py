"""Measures what the README says about time and memory: `python -m benchmarks.NAME`, all: `python -m benchmarks`."""
