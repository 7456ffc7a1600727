localrules:
    plot,


rule plot:
    # Draw the figures of a finished run.
    input:
        RESULTS / "tables" / "summary.csv",
        RESULTS / "tables" / "cost.csv",
    output:
        accuracy=report(
            figure("accuracy"), caption="../report/accuracy.rst", category="Figures"
        ),
        curves=report(
            figure("training_curves"),
            caption="../report/training_curves.rst",
            category="Figures",
        ),
        cost=report(figure("cost"), caption="../report/cost.rst", category="Figures"),
    log:
        RESULTS / "logs" / "plot.log",
    conda:
        "../../envs/kd.yaml"
    params:
        config=CONFIG_JSON,
        code=code_digest("kd.stages.plot"),
    shell:
        "exec python -m kd.stages.plot --config {params.config:q} > {log} 2>&1"


rule figures:
    input:
        figure("accuracy"),
        figure("training_curves"),
        figure("cost"),
