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
    threads: 1
    resources:
        gpu=GPU,
    params:
        job=job_json("cache_embeddings"),
    shell:
        "exec python -m kd.stages.cache_embeddings --job {params.job:q} > {log:q} 2>&1"


rule embeddings:
    input:
        manifests("cache_embeddings"),
