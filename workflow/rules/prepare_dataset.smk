rule prepare_dataset:
    # Pack a labelled image source into a dataset of uint8 images with train, val and test.
    input:
        upstream("prepare_dataset"),
    output:
        manifest("prepare_dataset"),
    log:
        log_of("prepare_dataset"),
    conda:
        "../../envs/kd.yaml"
    threads: threads_of("prepare_dataset")
    resources:
        **resources_of("prepare_dataset"),
    params:
        job=told("prepare_dataset"),
    shell:
        "exec python -m kd.jobs.start kd.stages.prepare_dataset --job {params.job:q} > {log:q} 2>&1"


rule datasets:
    input:
        manifests("prepare_dataset"),
