localrules:
    table,
    figure,
    publish_tables,
    publish_figures,


use rule artefact as table with:
    # Write one table, from what finished artefacts say.
    output:
        manifest("table"),


use rule artefact as figure with:
    # Draw one figure, from what finished artefacts say.
    output:
        manifest("figure"),


use rule artefact as analysis with:
    # Draw one figure for which networks have to work, so on a node.
    output:
        manifest("analysis"),
    threads: threads_of("analysis")
    resources:
        **resources_of("analysis"),


rule publish_tables:
    # Lay the tables under plain names into the folder of the experiment, with index, config and provenance.
    input:
        [str(job.manifest) for job in PLAN.run().jobs.values()],
        manifests("table"),
    output:
        # Targets ask for it, so what lies there is replaced whenever it is of another config or code, whatever Snakemake
        # remembers.
        key=update(key_file(PLAN, "tables")),
        shown=published("tables"),
        run=report(
            update(PLAN.folder / "tables" / "run.html"),
            caption="../report/run.rst",
            category="Provenance",
        ),
        index=update(PLAN.folder / "index.csv"),
        config=update(PLAN.folder / "config.yaml"),
        signature=update(PLAN.folder / "run.json"),
    log:
        page_log("publish_tables"),
    conda:
        "../../envs/kd.yaml"
    params:
        what="tables",
        config=str(CONFIG_FILE),
        configfile=CONFIGFILE,
    shell:
        "exec python -m kd.jobs.start kd.cli.publish {params.what} --config {params.config:q}"
        " --configfile {params.configfile:q} > {log:q} 2>&1"


use rule publish_tables as publish_figures with:
    # Lay the figures under plain names into the folder of the experiment.
    input:
        manifests("figure", "analysis"),
    output:
        key=update(key_file(PLAN, "figures")),
        shown=published("figures"),
    log:
        page_log("publish_figures"),
    params:
        what="figures",


rule tables:
    """All tables, and what they are made from."""
    input:
        rules.publish_tables.output,


rule figures:
    """All figures, and the tables."""
    input:
        rules.tables.input,
        rules.publish_figures.output,
