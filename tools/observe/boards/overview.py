"""The dashboard that shows whether Penstock does what it should."""

from tools.observe.grafana import Dashboard, Panel, Row
from tools.observe.queries import FINISHED, OF_MODEL, QUEUES, burn, quantile, rate, stat

OVERVIEW = Dashboard(
    "penstock",
    "Penstock",
    "Whether Penstock does what it should: queues, workers, service levels.",
    (
        Row(
            (
                stat(
                    "Ready workers",
                    "Workers that renewed within their lease and take tasks.",
                    "none",
                    'max(penstock_workers{state="READY"}) or vector(0)',
                    1,
                ),
                stat("Waiting tasks", "Tasks in all queues.", "short", f"sum({QUEUES})"),
                stat(
                    "Backlog",
                    "Expected device time of all work that is left: what to scale workers on.",
                    "s",
                    f"sum(max by (model) (penstock_backlog_seconds{{{OF_MODEL}}}))",
                ),
                stat(
                    "Oldest waiting task",
                    "Of priority high or normal.",
                    "s",
                    f'max(penstock_queue_oldest_seconds{{{OF_MODEL}, priority!="low"}})',
                ),
                stat(
                    "Success share",
                    "Of the tasks that ended as SUCCESS or FAILED in the time shown.",
                    "percentunit",
                    f'sum(increase({FINISHED}, status="SUCCESS"}}[$__range])) / '
                    f'sum(increase({FINISHED}, status=~"SUCCESS|FAILED"}}[$__range]))',
                ),
                stat(
                    "Alerts",
                    "Alerts that fire now: see the runbooks.",
                    "none",
                    'count(ALERTS{alertstate="firing"}) or vector(0)',
                ),
            ),
            height=4,
        ),
        Row(
            (
                Panel(
                    "Bad events of the service levels",
                    "Share of the last hour: of submits that were refused, of tasks that started late, that failed.",
                    "percentunit",
                    tuple((f"{burn(slo)} or vector(0)", slo) for slo in ("accepted", "started", "ended")),
                ),
                Panel(
                    "Backlog by model",
                    "Expected device time of what waits, runs and is in batches.",
                    "s",
                    ((f"max by (model) (penstock_backlog_seconds{{{OF_MODEL}}})", "{{model}}"),),
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Queue depth by priority",
                    "Tasks that wait.",
                    "short",
                    ((f"sum by (priority) ({QUEUES})", "{{priority}}"),),
                ),
                Panel(
                    "Age of the oldest waiting task",
                    "How long the oldest task of each priority has waited.",
                    "s",
                    ((f"max by (priority) (penstock_queue_oldest_seconds{{{OF_MODEL}}})", "{{priority}}"),),
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Submitted and finished",
                    "Tasks a second.",
                    "cps",
                    (
                        (rate(f"penstock_tasks_submitted_total{{{OF_MODEL}}}"), "submitted"),
                        (rate(f"{FINISHED}}}", "status"), "{{status}}"),
                    ),
                ),
                Panel(
                    "Wait until first claim",
                    "Time from the submit until a worker took the task.",
                    "s",
                    tuple(
                        (quantile(q, "penstock_task_wait_seconds", f"{{{OF_MODEL}}}"), f"p{q * 100:.0f}")
                        for q in (0.5, 0.95, 0.99)
                    ),
                ),
            )
        ),
    ),
    has_models=True,
)
