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
    threads: threads_of("train_baseline")
    resources:
        **resources_of("train_baseline"),
    params:
        job=told("train_baseline"),
        devices=devices_of("train_baseline"),
        launcher=launcher_of("train_baseline"),
    shell:
        "exec {params.launcher}python -m kd.jobs.start kd.stages.train_baseline"
        " --job {params.job:q} {params.devices} > {log:q} 2>&1"


rule baselines:
    input:
        manifests("train_baseline"),
