"""Datasets: sources (one file each), splits, packing, views, reading in batches."""
