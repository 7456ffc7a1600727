rule train_baseline:
    # Train the joint baseline: one network on all datasets at once, with a head for each.
    input:
        upstream("train_baseline"),
    output:
        manifest("train_baseline"),
    log:
        log_of("train_baseline"),
    conda:
        "../../envs/kd.yaml"
    threads: 1
    resources:
        gpu=GPU,
    params:
        job=job_json("train_baseline"),
    shell:
        "exec python -m kd.stages.train_baseline --job {params.job:q} > {log:q} 2>&1"


rule baselines:
    input:
        manifests("train_baseline"),
