use rule artefact as cache_embeddings with:
    # Cache what one frozen teacher sees in every view of one dataset.
    output:
        manifest("cache_embeddings"),
    threads: threads_of("cache_embeddings")
    resources:
        **resources_of("cache_embeddings"),


rule embeddings:
    """The cache: what every teacher sees in every dataset."""
    input:
        manifests("cache_embeddings"),
