from kd.evaluation.contents import optional_pages, optional_tables


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
        front_page=table("front_page.rst"),
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
        further=[table(name) for name in optional_tables(PLAN)],
        further_html=[
            report(
                table(f"{name}.html"),
                caption=f"../report/{name}.rst",
                category="Tables",
            )
            for name in optional_pages(PLAN)
        ],
        run=report(
            table("run.html"),
            caption="../report/run.rst",
            category="Provenance",
        ),
        index=update(PLAN.folder / "index.csv"),
        config=update(PLAN.folder / "config.yaml"),
        signature=update(PLAN.folder / "run.json"),
    log:
        page_log("tabulate"),
    conda:
        "../../envs/kd.yaml"
    params:
        config=str(CONFIG_FILE),
        configfile=CONFIGFILE,
    shell:
        "exec python -m kd.jobs.start kd.stages.tabulate --config {params.config:q}"
        " --configfile {params.configfile:q} --key {output.key:q} > {log:q} 2>&1"


rule tables:
    input:
        MANIFESTS,
        rules.tabulate.output,
