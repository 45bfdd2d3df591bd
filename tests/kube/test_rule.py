"""The simulated scaler does what KEDA does with the ScaledObject of the chart."""

import pytest

from tests.scaling.rule import Query, Rule, Scaler

pytestmark = pytest.mark.kube

RULE = Rule(
    query=Query("penstock_backlog_seconds", "mine"),
    threshold=60, activation=0, fewest=0, most=3, poll_s=15, cooldown_s=300, first_cooldown_s=1800, window_s=300,
)  # fmt: skip


def scaler(at: float = 0) -> Scaler:
    """One whose first pod has been there for long."""
    return Scaler(RULE, at - RULE.first_cooldown_s - 1)


def test_the_least_backlog_starts_a_pod_and_none_ends_it_after_the_cooldown() -> None:
    one = scaler()

    assert one.replicas(0, 0, 0) == 0
    assert one.replicas(0.001, 0, 15) == 1
    assert one.replicas(0, 1, 315) == 1
    assert one.replicas(0, 1, 316) == 0


def test_the_first_pod_stays_for_long() -> None:
    one = Scaler(RULE, 0)

    assert one.replicas(0, 1, 1799) == 1
    assert one.replicas(0, 1, 1801) == 0


def test_pods_follow_the_backlog_up_at_once_and_down_after_the_window() -> None:
    one = scaler()

    assert one.replicas(150, 1, 0) == 3
    assert one.replicas(1_000, 3, 15) == 3, "no more than the most"
    assert one.replicas(30, 3, 310) == 3
    assert one.replicas(30, 3, 320) == 1


def test_where_the_backlog_is_unknown_nothing_changes() -> None:
    one = scaler()

    assert [one.replicas(None, count, 10_000) for count in (0, 1, 3)] == [0, 1, 3]


def test_a_query_adds_up_the_models_of_the_class_and_what_several_processes_say_once() -> None:
    query = Query.of('sum(max by (model) (penstock_backlog_seconds{namespace="a",model=~"mine(@.*)?|b"}))')
    series = [
        ({"model": "mine", "process": "api-1"}, 3.0),
        ({"model": "mine", "process": "api-2"}, 2.0),
        ({"model": "mine@2"}, 1.0),
        ({"model": "others"}, 100.0),
    ]

    assert query.value({"penstock_backlog_seconds": series}) == 4.0
    assert query.value({"penstock_backlog_seconds": series[-1:]}) is None
    assert query.value({}) is None
