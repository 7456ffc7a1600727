rule train_joint_teacher:
    # Train a joint teacher on the cached embeddings of its individual teachers.
    input:
        upstream("train_joint_teacher"),
    output:
        manifest("train_joint_teacher"),
    log:
        log_of("train_joint_teacher"),
    params:
        job=job_json("train_joint_teacher"),
    threads: 1
    resources:
        gpu=1,
    conda:
        "../../envs/kd.yaml"
    shell:
        "exec python -m kd.stages.train_joint_teacher --job {params.job:q} > {log} 2>&1"


rule joint_teachers:
    input:
        manifests("train_joint_teacher"),
