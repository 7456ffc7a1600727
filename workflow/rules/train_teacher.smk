rule train_teacher:
    # Train an individual teacher on its own dataset, or take a brought one as it is.
    input:
        upstream("train_teacher"),
    output:
        manifest("train_teacher"),
    log:
        log_of("train_teacher"),
    conda:
        "../../envs/kd.yaml"
    threads: threads_of("train_teacher")
    resources:
        **resources_of("train_teacher"),
    params:
        job=told("train_teacher"),
        devices=devices_of("train_teacher"),
        launcher=launcher_of("train_teacher"),
    shell:
        "exec {params.launcher}python -m kd.jobs.start kd.stages.train_teacher"
        " --job {params.job:q} {params.devices} > {log:q} 2>&1"


rule teachers:
    input:
        manifests("train_teacher"),
