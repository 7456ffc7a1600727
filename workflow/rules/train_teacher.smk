use rule artefact as train_teacher with:
    # Train an individual teacher on its own dataset, or take given weights as they are.
    output:
        manifest("train_teacher"),
    threads: threads_of("train_teacher")
    resources:
        **resources_of("train_teacher"),


rule teachers:
    """Individual teachers, one for each dataset and seed."""
    input:
        manifests("train_teacher"),
