"""Who may connect, who makes room, and how long a request may take to come; how several accept from one queue."""

import asyncio
import socket

import pytest

from penstock.api.http.addresses import ClientAddresses
from penstock.api.serving.acceptor import AT_ONCE, INHERITED, Acceptor
from penstock.api.serving.admission import BEHIND_PROXY, Admission, Place
from penstock.api.serving.deadlines import ReceiveClock
from penstock.api.serving.files import connections_for
from penstock.settings import ApiSettings


class Room:
    """An admission whose connections note when they are closed."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self.admission = Admission(most, most_of_one)
        self.closed: list[Place] = []

    def connect(self, address: str = "a") -> Place | None:
        place = self.admission.admit(address)
        if place is not None:
            place.close = lambda: self.closed.append(place)
        return place

    def busy(self, address: str = "a") -> Place:
        place = self.connect(address)
        assert place is not None
        self.admission.is_busy(place)
        return place


def test_the_connection_that_is_silent_for_the_longest_makes_room() -> None:
    room = Room(2, 2)
    first, second = room.connect("a"), room.connect("b")

    third = room.connect("c")

    assert third is not None
    assert room.closed == [first]
    assert second not in room.closed


@pytest.mark.parametrize("age_s", [0.0, 2.0])
def test_a_connection_without_a_request_goes_before_one_with_an_answer_unless_it_has_just_come(age_s: float) -> None:
    """A request of one that has just come may be on its way: it may not be read before a flood of others is let in."""
    room = Room(2, 2)
    answered = room.busy("a")
    room.admission.is_silent(answered)
    new = room.connect("b")
    assert new is not None
    new.began -= age_s

    assert room.connect("c") is not None
    assert room.closed == [new if age_s else answered]


def test_a_connection_with_a_request_in_progress_is_not_closed() -> None:
    room = Room(2, 2)
    held = [room.busy("a"), room.busy("b")]

    assert room.connect("c") is None
    assert room.closed == []

    room.admission.is_silent(held[1])
    assert room.connect("c") is not None
    assert room.closed == [held[1]]


def test_an_address_makes_room_for_itself_only() -> None:
    room = Room(10, 2)
    others = room.connect("b")
    own = [room.connect("a"), room.connect("a")]

    assert room.connect("a") is not None
    assert room.closed == own[:1]
    assert others not in room.closed


def test_connections_of_a_proxy_are_not_counted_as_one_client() -> None:
    room = Room(10, 2)

    assert [room.connect(BEHIND_PROXY) is not None for _ in range(5)] == [True] * 5
    assert [room.admission.enter("a") for _ in range(3)] == [True, True, False]

    room.admission.exit("a")
    assert room.admission.enter("a")


def test_what_an_admission_remembers_ends_with_the_connections() -> None:
    room = Room(1000, 10)
    for number in range(5000):
        place = room.connect(f"10.0.{number // 256}.{number % 256}")
        assert place is not None
        room.admission.leave(place)
        room.admission.leave(place)

    assert room.admission._of_address == {}
    assert (room.admission._total, len(room.admission._new), len(room.admission._idle)) == (0, 0, 0)


def test_a_request_has_its_time_and_that_of_its_bytes() -> None:
    clock = ReceiveClock(10, 100)
    clock.begin(0, 10)
    clock.received = 500  # 5 s of them

    assert clock.first_look() == 10
    assert clock.next_look(10) == 15
    clock.received = 510
    assert clock.next_look(15) == pytest.approx(15.1)
    clock.received = 511
    assert clock.next_look(15.2) < 15.2


def test_a_client_that_has_sent_much_and_falls_silent_is_not_waited_for() -> None:
    clock = ReceiveClock(10, 100)
    clock.begin(0, 10)
    clock.received = 1_000_000

    assert clock.next_look(10) == 20
    assert clock.next_look(20) <= 20


def test_the_time_in_which_the_server_does_not_read_is_not_the_clients() -> None:
    clock = ReceiveClock(10, 100)
    clock.begin(0, 10)
    clock.pause(5)
    assert clock.next_look(100) > 100
    clock.resume(105)

    assert clock.next_look(106) == 110
    assert clock.next_look(110) <= 110


@pytest.mark.parametrize(
    ("api", "files", "expected"),
    [
        (ApiSettings(), 65_536, (8192, 4096, 2048)),
        (ApiSettings(), 1024, (768, 384, 192)),
        (ApiSettings(max_connections=100), 1024, (100, 50, 25)),
        (ApiSettings(max_connections=5000, max_connections_per_address=2000), 1024, (768, 768, 384)),
        (ApiSettings(max_connections_per_address=10), 65_536, (8192, 10, 5)),
        (ApiSettings(max_connections=1), 65_536, (1, 1, 1)),
        (ApiSettings(max_requests_per_tenant=7), 65_536, (8192, 4096, 7)),
    ],
)
def test_there_are_no_more_connections_than_files(api: ApiSettings, files: int, expected: tuple[int, ...]) -> None:
    assert connections_for(api, files) == expected


@pytest.mark.parametrize(("at_once", "taken"), [(1, [5, 5]), (AT_ONCE, [0, 10])])
async def test_those_who_accept_one_at_a_time_share_a_burst(at_once: int, taken: list[int]) -> None:
    """Two accept from one queue, as two processes do, and have their turns one after the other."""
    admissions = Admission(1000, 1000), Admission(1000, 1000)
    listener = socket.create_server(("127.0.0.1", 0))
    clients = [socket.create_connection(listener.getsockname()) for _ in range(10)]
    acceptors = [
        Acceptor(queue, lambda _: asyncio.Protocol(), admission, ClientAddresses(()), lambda: b"", 16, at_once)
        for queue, admission in zip((listener, listener.dup()), admissions, strict=True)
    ]
    try:
        while sum(entered := [len(admission._new) for admission in admissions]) < len(clients):
            await asyncio.sleep(0)
    finally:
        for closed in (*acceptors, *clients):
            closed.close()

    assert sorted(entered) == taken


async def test_a_client_that_is_gone_without_a_word_is_found_by_the_kernel() -> None:
    """Else an event stream whose path has died is served for a quarter of an hour."""
    listener = socket.create_server(("127.0.0.1", 0))
    with listener.dup() as queue:
        Acceptor(listener, lambda _: asyncio.Protocol(), Admission(9, 9), ClientAddresses(()), lambda: b"", 16).close()
        with socket.create_connection(queue.getsockname()):
            accepted, _ = queue.accept()

    with accepted:
        found = [(level, option, accepted.getsockopt(level, option)) for level, option, _ in INHERITED]
    assert found == list(INHERITED)
    assert socket.TCP_USER_TIMEOUT in [option for _, option, _ in INHERITED]
