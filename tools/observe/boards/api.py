"""The dashboard of the HTTP API."""

from tools.observe.grafana import Dashboard, Panel, Row
from tools.observe.queries import NO_FAULT, quantile, rate

OF_API = '{route=~"/v1/.*"}'
API = Dashboard(
    "penstock-api",
    "Penstock: API",
    "What clients ask, what they are answered, and how long that takes.",
    (
        Row(
            (
                Panel(
                    "Latency by route",
                    "p95, without waits for a task.",
                    "s",
                    (
                        (
                            quantile(0.95, "penstock_http_requests_seconds", OF_API, "method", "route"),
                            "{{method}} {{route}}",
                        ),
                    ),
                ),
                Panel(
                    "Answers by status",
                    "Requests a second.",
                    "reqps",
                    ((rate(f"penstock_http_requests_seconds_count{OF_API}", "status"), "{{status}}"),),
                ),
                Panel(
                    "Refused submits",
                    "By the code of the refusal, a second.",
                    "reqps",
                    ((rate("penstock_submits_refused_total", "code"), "{{code}}"),),
                    empty=NO_FAULT,
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Connections and waits",
                    "Open connections of clients, and requests that wait for the end of a task.",
                    "short",
                    (
                        ("sum by (instance) (penstock_connections)", "{{instance}} connections"),
                        ("sum by (instance) (penstock_waits)", "{{instance}} waits"),
                    ),
                ),
                Panel(
                    "Connections refused and closed",
                    "By reason, a second.",
                    "cps",
                    (
                        (rate("penstock_connections_refused_total", "why"), "refused: {{why}}"),
                        (rate("penstock_connections_closed_total", "why"), "closed: {{why}}"),
                        (rate("penstock_accept_failures_total", "error"), "not accepted: {{error}}"),
                    ),
                    empty=NO_FAULT,
                ),
                Panel(
                    "Records",
                    "Records of tasks in Redis, by status.",
                    "short",
                    (("max by (status) (penstock_tasks_stored)", "{{status}}"),),
                ),
            )
        ),
    ),
)
