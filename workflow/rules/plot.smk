from kd.evaluation.contents import optional_figures


localrules:
    plot,


rule plot:
    # Draw the figures of a finished run.
    input:
        PLAN.folder / "tables" / "summary.csv",
        PLAN.folder / "tables" / "cost.csv",
        PLAN.folder / "tables" / "cache.csv",
        key=TABLES_KEY,
    output:
        key=update(FIGURES_KEY),
        accuracy=report(
            figure("accuracy"), caption="../report/accuracy.rst", category="Figures"
        ),
        curves=report(
            figure("training_curves"),
            caption="../report/training_curves.rst",
            category="Figures",
        ),
        cost=report(figure("cost"), caption="../report/cost.rst", category="Figures"),
        cache=report(figure("cache"), caption="../report/cache.rst", category="Figures"),
        further=[
            report(figure(name), caption=f"../report/{name}.rst", category="Figures")
            for name in optional_figures(PLAN)
        ],
    log:
        page_log("plot"),
    conda:
        "../../envs/kd.yaml"
    params:
        config=str(CONFIG_FILE),
    shell:
        "exec python -m kd.jobs.start kd.stages.plot --config {params.config:q}"
        " --key {output.key:q} --tables-key {input.key:q} > {log:q} 2>&1"


rule figures:
    input:
        rules.tables.input,
        rules.plot.output,
