"""The rule by which the number of pods follows the backlog: the chart's ScaledObject, and what KEDA makes of one.

KEDA decides between none and one: a backlog above the threshold of activation makes one pod, and none is left when
there was no such backlog for the cooldown. Between one and the most, its HorizontalPodAutoscaler has a pod for each
`threshold` of the backlog, and goes down to the most that it wanted within its window. Where the backlog is unknown,
both leave the number as it is. Read in KEDA's `scale_scaledobjects.go` and in the reference of autoscaling/v2.
"""

import math
import re
from collections import deque
from collections.abc import Mapping

from msgspec import Struct

from tests.kube.chart import Object

Samples = Mapping[str, list[tuple[dict[str, str], float]]]
"""Labels and values of the series that were read, by the name of their metric."""

_QUERY = re.compile(r'sum\(max by \(model\) \((?P<metric>\w+)\{(?:.*,)?model=~"(?P<models>[^"]+)"\}\)\)')


class Query(Struct, frozen=True):
    """The query of a trigger: the sum over the models of the largest value that a process tells."""

    metric: str
    models: str

    @classmethod
    def of(cls, text: str) -> "Query":
        """Returns what the chart's query asks for. Raises AssertionError where it has another form."""
        found = _QUERY.fullmatch(text)
        assert found is not None, text
        return cls(found["metric"], found["models"])

    def value(self, samples: Samples) -> float | None:
        """Returns the sum; None where no series fits, which KEDA takes for an error and not for 0."""
        largest: dict[str, float] = {}
        for labels, value in samples.get(self.metric, []):
            model = labels.get("model", "")
            if re.fullmatch(self.models, model):
                largest[model] = max(value, largest.get(model, 0.0))
        return sum(largest.values()) if largest else None


class Rule(Struct, frozen=True):
    """What a ScaledObject says. Times are in seconds."""

    query: Query
    threshold: float
    activation: float
    fewest: int
    most: int
    poll_s: float
    cooldown_s: float
    first_cooldown_s: float
    window_s: float

    @classmethod
    def of(cls, scaled: Object) -> "Rule":
        """Returns the rule of an object that the chart has made."""
        spec = scaled["spec"]
        (trigger,) = spec["triggers"]
        told = trigger["metadata"]
        assert told["ignoreNullValues"] == "false"
        assert "fallback" not in spec
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        return cls(
            query=Query.of(told["query"]),
            threshold=float(told["threshold"]),
            activation=float(told["activationThreshold"]),
            fewest=spec["minReplicaCount"],
            most=spec["maxReplicaCount"],
            poll_s=spec["pollingInterval"],
            cooldown_s=spec["cooldownPeriod"],
            first_cooldown_s=spec["initialCooldownPeriod"],
            window_s=behavior["scaleDown"]["stabilizationWindowSeconds"],
        )


class Scaler:
    """Follows one ScaledObject from the moment when it was made."""

    def __init__(self, rule: Rule, now: float) -> None:
        self.rule = rule
        self._idle_from = now + rule.first_cooldown_s
        self._wanted: deque[tuple[float, int]] = deque()

    def replicas(self, backlog: float | None, replicas: int, now: float) -> int:
        """Returns how many pods there should be, of so many now."""
        rule = self.rule
        if backlog is None:
            return replicas
        if backlog > rule.activation:
            self._idle_from = now + rule.cooldown_s
            if replicas == 0:
                return max(1, rule.fewest)
        elif rule.fewest == 0 and replicas > 0 and now > self._idle_from:
            self._wanted.clear()
            return 0
        return self._between(backlog, replicas, now) if replicas else 0

    def _between(self, backlog: float, replicas: int, now: float) -> int:
        wanted = min(max(math.ceil(backlog / self.rule.threshold), 1, self.rule.fewest), self.rule.most)
        self._wanted.append((now, wanted))
        while now - self._wanted[0][0] > self.rule.window_s:
            self._wanted.popleft()
        return max(wanted, min(replicas, max(count for _, count in self._wanted)))
