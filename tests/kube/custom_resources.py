"""What the objects of KEDA and of the Prometheus operator may hold: as much of their definitions as the chart uses.

Kubernetes' own schemas do not have them. Written after the reference pages of KEDA 2.17 (ScaledObject, the scaler
`prometheus`, whose metadata are all texts) and of the Prometheus operator 0.80 (monitoring.coreos.com/v1).
"""

from typing import Any


def _object(required: list[str], **members: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": members, "required": required}


TEXT, COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
SELECTOR = _object(["matchLabels"], matchLabels=TEXTS)
RELABELING = _object(["targetLabel", "replacement"], targetLabel=TEXT, replacement=TEXT)
ENDPOINT = _object(
    ["port"],
    port=TEXT,
    interval=DURATION,
    scrapeTimeout=DURATION,
    relabelings={"type": "array", "items": RELABELING},
)
RULE = {
    **_object(["expr"], alert=TEXT, record=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS, **{"for": DURATION}),
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
}
TRIGGER = _object(
    ["type", "metadata"],
    type={"const": "prometheus"},
    metricType={"enum": ["AverageValue", "Value"]},
    metadata=_object(
        ["serverAddress", "query", "threshold"],
        serverAddress=TEXT,
        query=TEXT,
        threshold={"type": "string", "pattern": r"^[0-9.]+$"},
        activationThreshold={"type": "string", "pattern": r"^[0-9.]+$"},
        ignoreNullValues={"enum": ["true", "false"]},
    ),
)
SCALE_DOWN = _object(["stabilizationWindowSeconds"], stabilizationWindowSeconds={"type": "integer", "maximum": 3600})

SPECS: dict[tuple[str, str], dict[str, Any]] = {
    ("keda.sh/v1alpha1", "ScaledObject"): _object(
        ["scaleTargetRef", "triggers"],
        scaleTargetRef=_object(["name"], apiVersion=TEXT, kind=TEXT, name=TEXT),
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        pollingInterval=COUNT,
        cooldownPeriod=COUNT,
        initialCooldownPeriod=COUNT,
        advanced=_object(
            ["horizontalPodAutoscalerConfig"],
            horizontalPodAutoscalerConfig=_object(["behavior"], behavior=_object(["scaleDown"], scaleDown=SCALE_DOWN)),
        ),
        triggers={"type": "array", "items": TRIGGER, "minItems": 1},
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _object(
        ["selector", "endpoints"], selector=SELECTOR, endpoints={"type": "array", "items": ENDPOINT, "minItems": 1}
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): _object(
        ["selector", "podMetricsEndpoints"],
        selector=SELECTOR,
        podTargetLabels={"type": "array", "items": TEXT},
        podMetricsEndpoints={"type": "array", "items": ENDPOINT, "minItems": 1},
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _object(
        ["groups"],
        groups={
            "type": "array",
            "items": _object(["name", "rules"], name=TEXT, interval=DURATION, rules={"type": "array", "items": RULE}),
        },
    ),
}
"""The schema of `spec`, by version and kind."""
