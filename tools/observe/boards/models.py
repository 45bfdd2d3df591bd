"""The dashboard of models."""

from tools.observe.grafana import Dashboard, Panel, Row
from tools.observe.queries import FINISHED, NO_FAULT, OF_MODEL, growth, mean, quantile, rate

MODELS = Dashboard(
    "penstock-models",
    "Penstock: models",
    "What each model is asked for, how long it takes, and how its tasks end.",
    (
        Row(
            (
                Panel(
                    "Submitted by model",
                    "Tasks a second.",
                    "cps",
                    ((rate(f"penstock_tasks_submitted_total{{{OF_MODEL}}}", "model"), "{{model}}"),),
                ),
                Panel(
                    "Failures by code",
                    "Tasks a second that ended as FAILED.",
                    "cps",
                    ((rate(f'{FINISHED}, status="FAILED"}}', "model", "code"), "{{model}} {{code}}"),),
                    empty=NO_FAULT,
                ),
                Panel(
                    "Lines of batches",
                    "Lines that are still to become tasks.",
                    "short",
                    ((f"max by (model) (penstock_batches_backlog{{{OF_MODEL}}})", "{{model}}"),),
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Time of an attempt",
                    "From its claim to its end: p95.",
                    "s",
                    ((quantile(0.95, "penstock_task_duration_seconds", f"{{{OF_MODEL}}}", "model"), "{{model}}"),),
                ),
                Panel(
                    "Where an attempt spends its time",
                    "Mean time of each stage.",
                    "s",
                    ((mean("penstock_stage_duration_seconds", f"{{{OF_MODEL}}}", "stage"), "{{stage}}"),),
                ),
                Panel(
                    "Expected device time of waiting tasks",
                    "By model and priority, once one has been measured.",
                    "s",
                    (
                        (
                            f"max by (model, priority) (penstock_queue_device_seconds{{{OF_MODEL}}})",
                            "{{model}} {{priority}}",
                        ),
                    ),
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Error of the estimates",
                    "How far the estimate at the submit was off, relative to the true time: p95.",
                    "percentunit",
                    ((quantile(0.95, "penstock_eta_error_ratio", f"{{{OF_MODEL}}}", "model"), "{{model}}"),),
                ),
                Panel(
                    "Loading",
                    "Time that the last load took.",
                    "s",
                    ((f"max by (model, device) (penstock_model_load_seconds{{{OF_MODEL}}})", "{{model}} {{device}}"),),
                ),
                Panel(
                    "Loads and unloads",
                    "Of models of the repository, by outcome and by reason.",
                    "short",
                    (
                        (
                            growth(f"penstock_model_loads_total{{{OF_MODEL}}}", "model", "outcome"),
                            "{{model}} {{outcome}}",
                        ),
                        (
                            growth(f"penstock_model_evictions_total{{{OF_MODEL}}}", "model", "why"),
                            "{{model}} unloaded: {{why}}",
                        ),
                    ),
                    empty="a model in the repository",
                ),
            )
        ),
    ),
    has_models=True,
)
