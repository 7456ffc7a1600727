localrules:
    fetch_weights,


rule fetch_weights:
    # Get timm's pretrained weights, on the machine that runs Snakemake: compute nodes may have no network.
    output:
        manifest("fetch_weights"),
    log:
        log_of("fetch_weights"),
    conda:
        "../../envs/kd.yaml"
    params:
        job=told("fetch_weights"),
    shell:
        "exec python -m kd.jobs.start kd.stages.fetch_weights --job {params.job:q} > {log:q} 2>&1"


rule prefetch:
    input:
        manifests("prepare_dataset"),
        manifests("fetch_weights"),
