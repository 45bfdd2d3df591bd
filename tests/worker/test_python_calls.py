"""A task takes few Python calls of a worker: `python -m tools.python_calls` says where they are made."""

from pathlib import Path

from tests.support import worker_calls

MOST_OF_TASK = 565
"""A little more than it takes, so that another version of a library does not fail the test."""


def test_a_task_that_does_nothing_takes_few_python_calls(redis_url: str, namespace: str, tmp_path: Path) -> None:
    calls = len(worker_calls.of_task(redis_url, namespace, tmp_path))

    assert calls <= MOST_OF_TASK
