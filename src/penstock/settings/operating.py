"""The sections about running a server: what people see of it, and how it starts on one machine."""

from typing import Annotated, Literal

from msgspec import Meta

from penstock.settings.types import NonNegative, Port, Section


class ConsoleSettings(Section, frozen=True):
    """The console: pages for a browser, at `/console` of the API."""

    enabled: bool = True
    """Serve the console. Whoever opens it logs in with an API key, and can do there what this key may do."""
    session_s: Annotated[int, Meta(ge=60, le=2_592_000)] = 43_200
    """How long a browser stays logged in. A session ends at once with its key, and when it is logged out."""


class TelemetrySettings(Section, frozen=True):
    """Logs and metrics."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "human"] = "auto"
    """`auto` means `human` on a terminal and `json` elsewhere."""
    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 9464
    """Port on which `penstock worker` and `penstock up` serve the metrics of all their processes; 0 takes a free
    one."""


class UpSettings(Section, frozen=True):
    """`penstock up`: everything on one machine."""

    data_dir: str = "penstock-data"
    redis_max_bytes: NonNegative = 0
    """What its Redis may keep in memory: 0 stands for a quarter of the machine's memory. When that is full, submits are
    refused with 503, and nothing is lost."""
