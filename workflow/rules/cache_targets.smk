rule cache_targets:
    # Cache what a joint teacher makes of every view of one dataset: the targets of its students.
    input:
        upstream("cache_targets"),
    output:
        manifest("cache_targets"),
    log:
        log_of("cache_targets"),
    conda:
        "../../envs/kd.yaml"
    threads: 1
    resources:
        gpu=GPU,
    params:
        job=job_json("cache_targets"),
    shell:
        "exec python -m kd.stages.cache_targets --job {params.job:q} > {log:q} 2>&1"


rule targets:
    input:
        manifests("cache_targets"),
