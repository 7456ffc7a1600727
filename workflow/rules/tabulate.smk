localrules:
    tabulate,


rule tabulate:
    # Write the tables of a finished run.
    input:
        MANIFESTS,
    output:
        key=touch(TABLES_KEY),
        summary=RESULTS / "tables" / "summary.csv",
        summary_md=RESULTS / "tables" / "summary.md",
        summary_html=report(
            RESULTS / "tables" / "summary.html",
            caption="../report/summary.rst",
            category="Tables",
        ),
        measurements=RESULTS / "tables" / "measurements.csv",
        cost=RESULTS / "tables" / "cost.csv",
        cost_html=report(
            RESULTS / "tables" / "cost.html",
            caption="../report/cost_table.rst",
            category="Tables",
        ),
        run=report(
            RESULTS / "tables" / "run.html",
            caption="../report/run.rst",
            category="Provenance",
        ),
        index=RESULTS / "index.csv",
    log:
        RESULTS / "logs" / "tabulate.log",
    conda:
        "../../envs/kd.yaml"
    params:
        config=CONFIG_JSON,
    shell:
        "exec python -m kd.stages.tabulate --config {params.config:q} > {log:q} 2>&1"


rule tables:
    input:
        MANIFESTS,
        rules.tabulate.output,
