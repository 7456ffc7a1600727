localrules:
    fetch_weights,


use rule artefact as fetch_weights with:
    # Get timm's pretrained weights, on the machine that runs Snakemake: compute nodes may have no network.
    output:
        manifest("fetch_weights"),


rule prefetch:
    input:
        manifests("prepare_dataset", "fetch_weights"),
