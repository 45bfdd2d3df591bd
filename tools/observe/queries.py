"""Queries that several panels make in the same way."""

from tools.observe.grafana import Panel

NO_GPU = "a GPU"
NO_FAULT = "a fault"
OF_MODEL = 'model=~"$model"'
QUEUES = f"max by (model, priority) (penstock_queue_depth{{{OF_MODEL}}})"
FINISHED = f"penstock_tasks_finished_total{{{OF_MODEL}"


def rate(series: str, *by: str) -> str:
    """The growth of a counter in a second, summed over all other labels than these."""
    return f"sum{_by(by)} (rate({series}[$__rate_interval]))"


def growth(series: str, *by: str) -> str:
    """The growth of a counter between two points of the plot."""
    return f"sum{_by(by)} (increase({series}[$__rate_interval]))"


def mean(histogram: str, chosen: str, *by: str) -> str:
    """The mean of what a histogram has counted."""
    return f"{rate(f'{histogram}_sum{chosen}', *by)} / {rate(f'{histogram}_count{chosen}', *by)}"


def quantile(q: float, histogram: str, chosen: str = "", *by: str) -> str:
    """A quantile of what a histogram has counted."""
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket{chosen}', 'le', *by)})"


def stat(title: str, shows: str, unit: str, query: str, green_from: float | None = None) -> Panel:
    """A panel that shows one number."""
    return Panel(title, shows, unit, ((query, ""),), "stat", green_from)


def burn(slo: str) -> str:
    """The share of bad events of a service level in the last hour."""
    chosen = f'{{slo="{slo}"}}'
    return f"sum(penstock:slo_bad:increase1h{chosen}) / sum(penstock:slo_all:increase1h{chosen})"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
