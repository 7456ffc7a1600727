"""Ratios against a named reference, measured side by side in one run: `python -m benchmarks.NAME`."""
