from kd.evaluation.contents import (
    MULTI_LABEL_PAGES,
    MULTI_LABEL_TABLES,
    is_multi_label,
)


localrules:
    tabulate,


rule tabulate:
    # Write the tables of a finished run.
    input:
        MANIFESTS,
    output:
        key=update(TABLES_KEY),
        summary=table("summary.csv"),
        summary_md=table("summary.md"),
        summary_html=report(
            table("summary.html"),
            caption="../report/summary.rst",
            category="Tables",
        ),
        measurements=table("measurements.csv"),
        cost=table("cost.csv"),
        cost_html=report(
            table("cost.html"),
            caption="../report/cost_table.rst",
            category="Tables",
        ),
        cache=table("cache.csv"),
        cache_html=report(
            table("cache.html"),
            caption="../report/cache_table.rst",
            category="Tables",
        ),
        multi_label=[table(name) for name in MULTI_LABEL_TABLES if is_multi_label(PLAN)],
        multi_label_html=[
            report(table(name), caption="../report/multilabel.rst", category="Tables")
            for name in MULTI_LABEL_PAGES
            if is_multi_label(PLAN)
        ],
        run=report(
            table("run.html"),
            caption="../report/run.rst",
            category="Provenance",
        ),
        index=update(RESULTS / "index.csv"),
    log:
        RESULTS / "logs" / "tabulate.log",
    conda:
        "../../envs/kd.yaml"
    params:
        config=CONFIG_JSON,
    shell:
        "exec python -m kd.stages.tabulate --config {params.config:q}"
        " --key {output.key:q} > {log:q} 2>&1"


rule tables:
    input:
        MANIFESTS,
        rules.tabulate.output,
