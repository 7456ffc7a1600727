use rule artefact as train_baseline with:
    # Train the joint baseline: one network on all datasets at once, with a head for each.
    output:
        manifest("train_baseline"),
    threads: threads_of("train_baseline")
    resources:
        **resources_of("train_baseline"),


rule baselines:
    """Networks trained on all datasets at once."""
    input:
        manifests("train_baseline"),
