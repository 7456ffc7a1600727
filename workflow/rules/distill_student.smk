use rule artefact as distill_student with:
    # Distil a student for one dataset, from a joint teacher or from an individual one.
    output:
        manifest("distill_student"),
    threads: threads_of("distill_student")
    resources:
        **resources_of("distill_student"),


rule students:
    """Students of every target dataset."""
    input:
        manifests("distill_student"),
