"""The dashboard of workers and devices."""

from tools.observe.grafana import Dashboard, Panel, Row
from tools.observe.queries import NO_FAULT, NO_GPU, growth, mean, quantile, rate

SUCCEEDED = 'penstock_tasks_finished_total{status="SUCCESS"}'

WORKERS = Dashboard(
    "penstock-workers",
    "Penstock: workers and devices",
    "What the workers and their devices do, and how they are.",
    (
        Row(
            (
                Panel(
                    "Device busy",
                    "Share of the time in which a device computed.",
                    "percentunit",
                    ((rate("penstock_device_busy_seconds_total", "instance", "device"), "{{instance}} {{device}}"),),
                ),
                Panel(
                    "Tiles in one device batch",
                    "Mean number of tiles that the device computed at once.",
                    "short",
                    ((mean("penstock_device_batch_tiles", "", "instance", "device"), "{{instance}} {{device}}"),),
                ),
                Panel(
                    "Tasks in flight",
                    "Tasks that are claimed and have not ended.",
                    "short",
                    (("sum by (instance, device) (penstock_tasks_in_flight)", "{{instance}} {{device}}"),),
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Restarts and hangs",
                    "Processes that were started again, and those that were killed since they hung.",
                    "short",
                    (
                        (
                            growth("penstock_process_restarts_total", "instance", "child"),
                            "{{instance}} {{child}} restarted",
                        ),
                        (growth("penstock_workers_hung_total", "instance", "child"), "{{instance}} {{child}} hung"),
                    ),
                ),
                Panel(
                    "Leases reclaimed and writes fenced",
                    "Tasks taken back from dead workers, and results that came too late.",
                    "short",
                    (
                        (growth("penstock_leases_reclaimed_total", "status"), "reclaimed, now {{status}}"),
                        (growth("penstock_writes_fenced_total"), "fenced"),
                    ),
                    empty=NO_FAULT,
                ),
                Panel(
                    "Processes that decode images",
                    "Children of the workers, and those of them that have died.",
                    "short",
                    (
                        ("sum by (instance, state) (penstock_decoders)", "{{instance}} {{state}}"),
                        (growth("penstock_decoders_lost_total", "how"), "lost: {{how}}"),
                    ),
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Memory of the processes",
                    "Resident memory, with what is shared.",
                    "bytes",
                    (("sum by (instance, process) (process_resident_memory_bytes)", "{{instance}} {{process}}"),),
                ),
                Panel(
                    "Lateness of the event loops",
                    "How late a process comes to what is due: p99.",
                    "s",
                    (
                        (
                            quantile(0.99, "penstock_loop_lag_seconds", "", "instance", "process"),
                            "{{instance}} {{process}}",
                        ),
                    ),
                ),
                Panel(
                    "Spool",
                    "Results that wait for the storage, on disk and in memory.",
                    "short",
                    (
                        (
                            "sum by (instance, device, place) (penstock_worker_spool)",
                            "{{instance}} {{device}} {{place}}",
                        ),
                    ),
                ),
            )
        ),
        Row(
            (
                Panel(
                    "GPU utilization",
                    "Share of the time in which any kernel ran.",
                    "percentunit",
                    (("max by (instance, device) (penstock_gpu_utilization)", "{{instance}} {{device}}"),),
                    empty=NO_GPU,
                ),
                Panel(
                    "Memory of the cards",
                    "Share in use, by everybody.",
                    "percentunit",
                    (
                        (
                            "max by (instance, device) "
                            "(penstock_gpu_memory_used_bytes / penstock_gpu_memory_total_bytes)",
                            "{{instance}} {{device}}",
                        ),
                    ),
                    empty=NO_GPU,
                ),
                Panel(
                    "Temperature and lowered clocks",
                    "Temperature of the cards; 1 where a clock is lowered.",
                    "celsius",
                    (
                        ("max by (instance, device) (penstock_gpu_temperature_celsius)", "{{instance}} {{device}}"),
                        (
                            "max by (instance, device, reason) (penstock_gpu_throttled) > 0",
                            "{{instance}} {{device}} {{reason}}",
                        ),
                    ),
                    empty=NO_GPU,
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Power of the cards",
                    "Power that each card draws.",
                    "watt",
                    (("max by (instance, device) (penstock_gpu_power_watts)", "{{instance}} {{device}}"),),
                    empty=NO_GPU,
                ),
                Panel(
                    "Energy of a task",
                    "Joules of all cards for each task that ended as SUCCESS, also of idle time.",
                    "joule",
                    (
                        (
                            f"{rate('penstock_gpu_energy_joules_total')} / {rate(SUCCEEDED)}",
                            "",
                        ),
                    ),
                    empty=NO_GPU,
                ),
                Panel(
                    "Faults of the cards",
                    "Memory errors that could not be corrected, and faults that the driver reported.",
                    "short",
                    (
                        (
                            "max by (instance, device) (penstock_gpu_ecc_uncorrected) > 0",
                            "{{instance}} {{device}} memory errors",
                        ),
                        (
                            f"{growth('penstock_gpu_xid_errors_total', 'instance', 'device', 'xid')} > 0",
                            "{{instance}} {{device}} Xid {{xid}}",
                        ),
                    ),
                    empty=NO_GPU,
                ),
            )
        ),
    ),
)
