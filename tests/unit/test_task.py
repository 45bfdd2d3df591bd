"""The pure module: states, moves, retry policy."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.batch import BatchState
from penstock.core.events import EVENTS, Delivery, Event
from penstock.core.lease import Lease, RetryPolicy, verdict
from penstock.core.request import OutputOptions, Request, Source
from penstock.core.task import TRANSITIONS, Attempt, ErrorRecord, Priority, State, Verb, moves, new_task_id
from penstock.errors import ImageDecodeFailed, InputDownloadFailed


def lease(failures: int = 0, max_retries: int = 3) -> Lease:
    request = Request(
        model="m", inputs={"image": Source(url="https://example.com/a.png")}, params={}, output=OutputOptions()
    )
    return Lease(
        id="tsk_0", epoch=1, fence="f", tenant="default", caller="a", priority=Priority.NORMAL, failures=failures,
        crashes=0, max_retries=max_retries, timeout_s=60, waited_ms=0, request=request,
    )  # fmt: skip


@pytest.mark.parametrize("state", [s for s in State if s.is_final])
def test_only_a_new_submit_leads_out_of_a_final_state_and_nothing_out_of_success(state: State) -> None:
    ways_out = {verb for source, verb in TRANSITIONS if source is state}

    assert ways_out == (set() if state is State.SUCCESS else {Verb.RESUBMIT})


@pytest.mark.parametrize("state", State)
def test_every_state_but_the_first_can_be_reached(state: State) -> None:
    assert state is State.PENDING or state in TRANSITIONS.values()


def test_the_scripts_are_given_exactly_the_moves_of_the_table() -> None:
    told = {(State(a), verb): State(b) for verb in Verb for a, b in moves(verb).items()}

    assert told == TRANSITIONS


def test_a_transient_error_is_tried_again_while_retries_are_left() -> None:
    error = InputDownloadFailed("timed out")

    assert [verdict(error, lease(failures=n, max_retries=2)) for n in range(3)] == [Verb.RETRY, Verb.RETRY, Verb.FAIL]


def test_an_error_of_the_input_is_never_tried_again() -> None:
    assert verdict(ImageDecodeFailed("damaged"), lease()) is Verb.FAIL


@given(failures=st.integers(1, 1000), base_s=st.floats(0.001, 10), cap_s=st.floats(10, 600))
def test_a_retry_waits_at_most_the_doubled_base_and_never_more_than_the_cap(
    failures: int, base_s: float, cap_s: float
) -> None:
    delay_ms = RetryPolicy(base_s=base_s, cap_s=cap_s).delay_ms(failures)

    assert 0 <= delay_ms <= 1000 * min(cap_s, base_s * 2 ** min(failures - 1, 32))


def test_retries_are_spread_over_the_whole_range() -> None:
    policy = RetryPolicy(base_s=8, cap_s=60)

    delays = [policy.delay_ms(1) for _ in range(400)]

    assert min(delays) < 1600
    assert max(delays) > 6400


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = [new_task_id() for _ in range(1000)]

    assert len(set(ids)) == 1000
    assert [i[:16] for i in ids] == sorted(i[:16] for i in ids)


def test_every_end_of_a_task_and_of_a_batch_has_an_event() -> None:
    ends = [*(state for state in State if state.is_final), *(state for state in BatchState if state.is_final)]

    assert {str(state) for state in ends} | {"PROGRESS"} == set(EVENTS)


def test_an_attempt_is_read_and_written_in_its_stored_form() -> None:
    row = (
        b'{"n":2,"fence":"f","worker":"w","device":"cuda:0","started":5,"ended":7,"outcome":"retry",'
        b'"error":{"code":"internal","message":"why","retryable":true}}'
    )
    attempt = Attempt(
        number=2, fence="f", worker="w", device="cuda:0", started=5, ended=7, outcome="retry",
        error=ErrorRecord(code="internal", message="why", retryable=True),
    )  # fmt: skip

    assert msgspec.json.decode(row, type=Attempt) == attempt
    assert msgspec.json.encode(attempt) == row


def test_an_event_is_read_and_written_in_its_stored_form() -> None:
    row = (
        b'{"seq":3,"what":"SUCCESS","at":9,"epoch":1,"tries":1,"status":"waiting","due":12,'
        b'"log":[{"at":10,"ms":2,"outcome":"refused"}]}'
    )
    event = Event(
        seq=3, kind="SUCCESS", at=9, epoch=1, tries=1, status="waiting", due=12,
        log=(Delivery(at=10, ms=2, outcome="refused"),),
    )  # fmt: skip

    assert msgspec.json.decode(row, type=Event) == event
    assert msgspec.json.encode(event) == row
    assert event.type == "succeeded"
