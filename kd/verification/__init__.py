"""Whether finished artefacts are whole, and hold what would be computed today."""
