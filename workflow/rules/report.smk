# Begins with the verdict on the run, so it is written with the tables.
report: str((PLAN.folder / "tables" / "front_page.rst").absolute())


localrules:
    report,


rule report:
    """The report: tables, figures, captions, config and versions in one page."""
    input:
        rules.figures.input,
    output:
        update(PLAN.folder / "report.html"),
    log:
        page_log("report"),
    conda:
        "../../envs/kd.yaml"
    params:
        config=str(CONFIG_FILE),
        snakefile=workflow.main_snakefile,
    shell:
        "exec python -m kd.jobs.start kd.cli.page --config {params.config:q}"
        " --snakefile {params.snakefile:q} --output {output:q} > {log:q} 2>&1"
