use rule artefact as cache_targets with:
    # Cache what a joint teacher makes of every view of one dataset: the targets of its students.
    output:
        manifest("cache_targets"),
    threads: threads_of("cache_targets")
    resources:
        **resources_of("cache_targets"),


rule targets:
    """What joint teachers make of the views of their target datasets."""
    input:
        manifests("cache_targets"),
