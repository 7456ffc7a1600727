# What the rules of all stages share; by itself it makes nothing.
rule artefact:
    input:
        upstream,
    output:
        manifest("artefact"),
    log:
        str(RESULTS / "logs" / "{stage}" / "{name}-{key}.log"),
    conda:
        "../../envs/kd.yaml"
    params:
        launcher=launcher_of,
        module=module_of,
        job=told,
        devices=devices_of,
    shell:
        "exec {params.launcher}python -m kd.jobs.start {params.module} --job {params.job:q} {params.devices}"
        " > {log:q} 2>&1"
