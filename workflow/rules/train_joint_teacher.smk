rule train_joint_teacher:
    # Train a joint teacher on the cached embeddings of its individual teachers.
    input:
        upstream("train_joint_teacher"),
    output:
        manifest("train_joint_teacher"),
    log:
        log_of("train_joint_teacher"),
    conda:
        "../../envs/kd.yaml"
    threads: threads_of("train_joint_teacher")
    resources:
        **resources_of("train_joint_teacher"),
    params:
        job=told("train_joint_teacher"),
        devices=devices_of("train_joint_teacher"),
        launcher=launcher_of("train_joint_teacher"),
    shell:
        "exec {params.launcher}python -m kd.jobs.start kd.stages.train_joint_teacher"
        " --job {params.job:q} {params.devices} > {log:q} 2>&1"


rule joint_teachers:
    input:
        manifests("train_joint_teacher"),
