"""The artefact store: directories named by keys, manifests, locks, checksums, digests of code."""
