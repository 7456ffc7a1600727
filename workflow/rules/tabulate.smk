localrules:
    tabulate,


rule tabulate:
    # Write the tables of a finished run.
    input:
        [str(job.manifest) for job in PLAN.jobs.values()],
    output:
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
        code=code_digest("kd.stages.tabulate"),
    shell:
        "exec python -m kd.stages.tabulate --config {params.config:q} > {log} 2>&1"


rule tables:
    input:
        RESULTS / "tables" / "summary.csv",
        RESULTS / "tables" / "cost.csv",
