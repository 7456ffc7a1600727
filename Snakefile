# Knowledge distillation from many datasets: teachers -> cached embeddings -> joint teachers -> students.
from snakemake.utils import min_version

min_version("9.0")

# A config of your own (--configfile) replaces the demo's, and is not merged with it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/artefact.smk"
include: "workflow/rules/preflight.smk"
include: "workflow/rules/outcome.smk"
include: "workflow/rules/fetch_dataset.smk"
include: "workflow/rules/prepare_dataset.smk"
include: "workflow/rules/fetch_weights.smk"
include: "workflow/rules/train_teacher.smk"
include: "workflow/rules/cache_embeddings.smk"
include: "workflow/rules/train_joint_teacher.smk"
include: "workflow/rules/cache_targets.smk"
include: "workflow/rules/distill_student.smk"
include: "workflow/rules/train_baseline.smk"
include: "workflow/rules/tables_and_figures.smk"
include: "workflow/rules/report.smk"


rule everything:
    """Everything; what is made if no target is named."""
    default_target: True
    input:
        rules.figures.input,
        rules.report.output,


rule all:
    """Everything but the report."""
    input:
        rules.figures.input,
