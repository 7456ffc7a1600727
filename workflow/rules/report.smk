report: "../report/workflow.rst"


localrules:
    report,


rule report:
    # Bundle tables, figures, captions, config and versions into one page.
    input:
        rules.figures.input,
    output:
        update(RESULTS / "report.html"),
    log:
        RESULTS / "logs" / "report.log",
    conda:
        "../../envs/kd.yaml"
    params:
        config=CONFIG_JSON,
        snakefile=workflow.main_snakefile,
    shell:
        "exec python -m kd.stages.report --config {params.config:q}"
        " --snakefile {params.snakefile:q} --output {output:q} > {log:q} 2>&1"
