"""What the README says about time and memory, measured: `python -m benchmarks.NAME`, and `python -m benchmarks` for all."""
