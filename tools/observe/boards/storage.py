"""The dashboard of Redis, the storage and webhooks."""

from tools.observe.grafana import Dashboard, Panel, Row
from tools.observe.queries import quantile, rate

STORAGE = Dashboard(
    "penstock-storage",
    "Penstock: storage and webhooks",
    "Redis, the storage and webhooks: whether they are there, how fast they are, and what waits for them.",
    (
        Row(
            (
                Panel(
                    "Reachable",
                    "1 where a process can use Redis and the storage.",
                    "none",
                    (
                        ("min by (instance, process) (penstock_store_up)", "{{instance}} {{process}} Redis"),
                        ("min by (instance, process) (penstock_storage_up)", "{{instance}} {{process}} storage"),
                    ),
                ),
                Panel(
                    "Time of a call of Redis",
                    "p50, p95 and p99 of scripts and pipelines, as their callers wait for them.",
                    "s",
                    tuple((quantile(q, "penstock_store_calls_seconds"), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)),
                ),
                Panel(
                    "Time of a call of the storage",
                    "p95 by operation.",
                    "s",
                    ((quantile(0.95, "penstock_storage_calls_seconds", "", "operation"), "{{operation}}"),),
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Inputs in Redis",
                    "Bytes of inputs that came inside of requests, and what is allowed.",
                    "bytes",
                    (
                        ("max(penstock_inline_used_bytes)", "used"),
                        ("max(penstock_inline_budget_bytes)", "budget"),
                    ),
                ),
                Panel(
                    "Free space",
                    "Of the disks of spools and of a local storage.",
                    "bytes",
                    (
                        (
                            "min by (instance, process, place) (penstock_disk_free_bytes)",
                            "{{instance}} {{process}} {{place}}",
                        ),
                    ),
                ),
                Panel(
                    "To be deleted",
                    "Keys and prefixes that are to be deleted from the storage, and uploads that no task uses.",
                    "short",
                    (
                        ("max(penstock_storage_condemned)", "condemned"),
                        ("max(penstock_uploads_unused)", "unused uploads"),
                    ),
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Deliveries by outcome",
                    "Attempts to deliver an event, a second.",
                    "cps",
                    ((rate("penstock_webhooks_attempts_total", "outcome"), "{{outcome}}"),),
                ),
                Panel(
                    "Time from an event to its delivery",
                    "p95.",
                    "s",
                    ((quantile(0.95, "penstock_webhooks_lag_seconds"), "p95"),),
                ),
                Panel(
                    "Endpoints that are owed events",
                    "And those that are left alone for a while.",
                    "short",
                    (("max by (state) (penstock_webhooks_endpoints)", "{{state}}"),),
                ),
            )
        ),
    ),
)
