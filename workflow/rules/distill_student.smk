rule distill_student:
    # Distil a student for one dataset, from a joint teacher or from an individual one.
    input:
        upstream("distill_student"),
    output:
        manifest("distill_student"),
    log:
        log_of("distill_student"),
    conda:
        "../../envs/kd.yaml"
    threads: 1
    resources:
        gpu=GPU,
    params:
        job=job_json("distill_student"),
    shell:
        "exec python -m kd.stages.distill_student --job {params.job:q} > {log:q} 2>&1"


rule students:
    input:
        manifests("distill_student"),
