use rule artefact as train_joint_teacher with:
    # Train a joint teacher on the cached embeddings of its individual teachers.
    output:
        manifest("train_joint_teacher"),
    threads: threads_of("train_joint_teacher")
    resources:
        **resources_of("train_joint_teacher"),


rule joint_teachers:
    """Joint teachers, trained on the cache."""
    input:
        manifests("train_joint_teacher"),
