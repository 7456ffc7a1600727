rule cache_embeddings:
    # Cache what one frozen teacher sees in every view of one dataset.
    input:
        upstream("cache_embeddings"),
    output:
        manifest("cache_embeddings"),
    log:
        log_of("cache_embeddings"),
    conda:
        "../../envs/kd.yaml"
    threads: threads_of("cache_embeddings")
    resources:
        **resources_of("cache_embeddings"),
    params:
        job=told("cache_embeddings"),
        devices=devices_of("cache_embeddings"),
    shell:
        "exec python -m kd.jobs.start kd.stages.cache_embeddings"
        " --job {params.job:q} {params.devices} > {log:q} 2>&1"


rule embeddings:
    input:
        manifests("cache_embeddings"),
