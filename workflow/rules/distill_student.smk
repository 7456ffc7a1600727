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
    threads: threads_of("distill_student")
    resources:
        **resources_of("distill_student"),
    params:
        job=told("distill_student"),
        devices=devices_of("distill_student"),
        launcher=launcher_of("distill_student"),
    shell:
        "exec {params.launcher}python -m kd.jobs.start kd.stages.distill_student"
        " --job {params.job:q} {params.devices} > {log:q} 2>&1"


rule students:
    input:
        manifests("distill_student"),
