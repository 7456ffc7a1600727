localrules:
    fetch_dataset,


use rule artefact as fetch_dataset with:
    # Download a dataset, on the machine that runs Snakemake: compute nodes may have no network.
    output:
        manifest("fetch_dataset"),
