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
    threads: threads_of("cache_targets")
    resources:
        **resources_of("cache_targets"),
    params:
        job=told("cache_targets"),
        devices=devices_of("cache_targets"),
    shell:
        "exec python -m kd.jobs.start kd.stages.cache_targets"
        " --job {params.job:q} {params.devices} > {log:q} 2>&1"


rule targets:
    input:
        manifests("cache_targets"),
