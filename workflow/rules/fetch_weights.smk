localrules:
    fetch_weights,


use rule artefact as fetch_weights with:
    # Get timm's pretrained weights, on the machine that runs Snakemake: compute nodes may have no network.
    output:
        manifest("fetch_weights"),


rule prefetch:
    """What the network or the login node is needed for: datasets, and timm's pretrained weights."""
    input:
        manifests("prepare_dataset", "fetch_weights"),
