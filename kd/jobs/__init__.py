"""The frame around every stage: jobs, manifests, locks, progress. Never changes what a stage computes."""
