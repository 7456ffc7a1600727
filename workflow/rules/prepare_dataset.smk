use rule artefact as prepare_dataset with:
    # Pack a labelled image source into a dataset of uint8 images with train, val and test.
    output:
        manifest("prepare_dataset"),
    threads: threads_of("prepare_dataset")
    resources:
        **resources_of("prepare_dataset"),


rule datasets:
    """Packed datasets: uint8 Zarr with train, val, test."""
    input:
        manifests("prepare_dataset"),
