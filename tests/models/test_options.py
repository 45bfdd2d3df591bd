"""Which options of the CUDA provider are chosen, and what of the choice is remembered.

The results are those of the real files on the CPU; how long a session takes is made up, on a clock that only runs move.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.models.base import DeviceBroken
from penstock.models.onnxruntime import options, precision
from penstock.models.onnxruntime.identity import CardIdentity
from penstock.models.onnxruntime.options import BUDGET_S, CANDIDATES, TRIES, Names, fastest
from penstock.models.onnxruntime.session import ModelFile, Session, manifest
from penstock.worker.devices import cpu

CLEAN = manifest()["superres-x4", "clean"]
SHAPE = (64, 64)
NONE, BOTH, NHWC, FUSED = CANDIDATES
CARD = CardIdentity(
    name="NVIDIA L4",
    capability="8.9",
    memory_bytes=24 * 10**9,
    driver="580.95.05",
    driver_serves="13.0",
    cuda="13.0",
    cudnn="9.28.1",
)

computed: dict[bytes, list[NDArray[Any]]] = {}


@cache
def on_cpu() -> Session:
    return Session(CLEAN, replace(cpu(2), streams=1))


class Card:
    """A card on which the candidates take so many seconds a run. `refuses` are those that cannot run, `blank` the one
    that gives black images."""

    def __init__(self, seconds: dict[Names, float], *, refuses: dict[Names, Exception] | None = None,
                 blank: Names | None = None) -> None:  # fmt: skip
        self.seconds = seconds
        self.refuses = refuses or {}
        self.blank = blank
        self.now_s = 0.0
        self.opened: list[Names] = []

    def clock(self) -> float:
        return self.now_s

    def open(self, names: Names) -> "OnCard":
        self.opened.append(names)
        if names in self.refuses:
            raise self.refuses[names]
        return OnCard(self, names)


class OnCard:
    file = CLEAN

    def __init__(self, card: Card, names: Names) -> None:
        self.card = card
        self.names = names

    def run(self, tiles: NDArray[Any]) -> list[NDArray[Any]]:
        self.card.now_s += self.card.seconds[self.names]
        key = tiles.tobytes()
        if key not in computed:
            computed[key] = on_cpu().run(tiles)
        return [output * (self.names != self.card.blank) for output in computed[key]]


def device(directory: Path | str) -> Device:
    return Device(name="cuda:0", kind="cuda", threads=1, sides=SHAPE[:1], batches=(1,), cache_dir=str(directory))


def chosen(card: Card, directory: Path | str, identity: CardIdentity = CARD) -> Names:
    return fastest(card.open, CLEAN, device(directory), SHAPE, identity, clock=card.clock)


def remembered(directory: Path) -> list[Path]:
    return list(directory.glob("*.json"))


@pytest.mark.parametrize("quickest", CANDIDATES, ids="+".join)
def test_the_fastest_candidate_is_chosen(tmp_path: Path, quickest: Names) -> None:
    card = Card(dict.fromkeys(CANDIDATES, 0.04) | {quickest: 0.02})

    assert chosen(card, tmp_path) == quickest
    assert card.opened == list(CANDIDATES)


def test_what_is_hardly_faster_is_not_worth_an_option(tmp_path: Path) -> None:
    assert chosen(Card(dict.fromkeys(CANDIDATES, 0.0395) | {NONE: 0.04}), tmp_path) == NONE


def test_a_candidate_that_computes_wrong_values_is_not_chosen(tmp_path: Path) -> None:
    card = Card({NONE: 0.04, FUSED: 0.03, NHWC: 0.01, BOTH: 0.035}, blank=NHWC)

    assert chosen(card, tmp_path) == FUSED


@pytest.mark.parametrize("error", [ConfigurationError("no plan"), DeviceBroken("CUDA failure 700: illegal access")])
def test_a_candidate_that_cannot_run_is_not_chosen_and_not_tried_at_the_next_start(
    tmp_path: Path, error: Exception
) -> None:
    card = Card({NONE: 0.04, FUSED: 0.03, BOTH: 0.05}, refuses={NHWC: error})

    assert chosen(card, tmp_path) == chosen(card, tmp_path) == FUSED
    assert [card.opened.count(names) for names in CANDIDATES if names] == [1, 1, 1]


def test_a_candidate_that_breaks_the_card_ends_the_start_and_is_tried_twice(tmp_path: Path) -> None:
    for _ in range(TRIES):
        broken = {NHWC: DeviceBroken("CUDA failure 700: illegal access")}
        card = Card(dict.fromkeys(CANDIDATES, 0.04), refuses=broken)
        with pytest.raises(DeviceBroken, match="719"):
            fastest(breaking(card), CLEAN, device(tmp_path), SHAPE, CARD, clock=card.clock)

    assert chosen(card, tmp_path) == NONE


def breaking(card: Card) -> options.Open:
    """Open sessions of a card that opens none any more once NHWC was tried."""

    def open_session(names: Names) -> OnCard:
        if NHWC in card.opened:
            raise DeviceBroken("CUDA failure 719: unspecified launch failure")
        return card.open(names)

    return open_session


def test_a_file_that_cannot_run_at_all_is_for_the_caller_and_measured_at_the_next_start(tmp_path: Path) -> None:
    with pytest.raises(DeviceBroken, match="802"):
        chosen(Card({}, refuses={NONE: DeviceBroken("CUDA failure 802: system not yet initialized")}), tmp_path)

    assert chosen(Card({NONE: 0.04, FUSED: 0.02, NHWC: 0.03, BOTH: 0.03}), tmp_path) == FUSED


def test_a_slow_card_is_not_measured_for_ever(tmp_path: Path) -> None:
    card = Card(dict.fromkeys(CANDIDATES, BUDGET_S))

    assert chosen(card, tmp_path) == NONE
    assert card.opened == [NONE]


def test_the_choice_is_remembered_with_its_times(tmp_path: Path) -> None:
    card = Card({NONE: 0.04, FUSED: 0.03, NHWC: 0.02, BOTH: 0.01})

    assert chosen(card, tmp_path) == chosen(Card({}), tmp_path) == BOTH
    (path,) = remembered(tmp_path)
    stored = msgspec.json.decode(path.read_bytes())
    assert (stored["card"], stored["file"]) == ("NVIDIA L4", CLEAN.file)
    assert stored["times_ms"] == {"none": 40, "fuse_conv_bias": 30, "prefer_nhwc": 20, "fuse_conv_bias+prefer_nhwc": 10}


@pytest.mark.parametrize(
    "other", [{"name": "NVIDIA T4"}, {"driver": "590.44.01"}, {"cudnn": "9.29.0"}, {"cuda": "13.1"}], ids=str
)
def test_another_card_driver_or_library_is_measured_anew(tmp_path: Path, other: dict[str, str]) -> None:
    chosen(Card({NONE: 0.04, FUSED: 0.03, NHWC: 0.02, BOTH: 0.01}), tmp_path)
    card = Card({NONE: 0.04, FUSED: 0.01, NHWC: 0.02, BOTH: 0.03})

    assert chosen(card, tmp_path, replace(CARD, **other)) == FUSED
    assert len(remembered(tmp_path)) == 2


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"file":"x","card":"y","options":["evil"],"finished":true}', b"\x00" * 99]
)
def test_what_is_damaged_is_measured_anew(tmp_path: Path, damage: bytes) -> None:
    chosen(Card({NONE: 0.04, FUSED: 0.03, NHWC: 0.02, BOTH: 0.01}), tmp_path)
    (path,) = remembered(tmp_path)
    path.write_bytes(damage)

    assert chosen(Card({NONE: 0.04, FUSED: 0.01, NHWC: 0.02, BOTH: 0.03}), tmp_path) == FUSED
    assert msgspec.json.decode(path.read_bytes())["options"] == ["fuse_conv_bias"]


@pytest.mark.parametrize("directory", ["", "/proc/nothing/here"])
def test_where_nothing_can_be_written_each_start_measures(directory: str) -> None:
    for _ in range(2):
        card = Card({NONE: 0.04, FUSED: 0.03, NHWC: 0.02, BOTH: 0.01})
        assert chosen(card, directory) == BOTH
        assert card.opened == list(CANDIDATES)


def test_a_candidate_that_ends_the_process_is_given_up_after_some_starts(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    deadly: dict[Names, Any] = {NHWC: Killed()}
    for _ in range(TRIES):
        with pytest.raises(Killed):
            chosen(Card({NONE: 0.04, FUSED: 0.03}, refuses=deadly), tmp_path)

    assert chosen(Card({}), tmp_path) == NONE


def test_workers_that_start_side_by_side_measure_once(tmp_path: Path) -> None:
    """Here they are threads, which a lock of a file keeps apart as it does processes."""
    cards = [Card({NONE: 0.04, FUSED: 0.03, NHWC: 0.02, BOTH: 0.01}) for _ in range(4)]

    with ThreadPoolExecutor(4) as workers:
        assert set(workers.map(lambda card: chosen(card, tmp_path), cards)) == {BOTH}

    assert sorted(len(card.opened) for card in cards) == [0, 0, 0, len(CANDIDATES)]


def test_a_worker_that_hangs_while_it_measures_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "WAIT_S", 0.3)
    hangs, let_go = Event(), Event()

    class Hanging(Card):
        def clock(self) -> float:
            hangs.set()
            let_go.wait(30)
            return super().clock()

    with ThreadPoolExecutor(1) as first:
        sick = first.submit(chosen, Hanging({NONE: 0.04, FUSED: 0.03, NHWC: 0.02, BOTH: 0.01}), tmp_path)
        hangs.wait(30)
        well = Card({})
        without = chosen(well, tmp_path)
        let_go.set()

    assert (without, well.opened) == (NONE, [])
    assert sick.result() == BOTH


def test_every_candidate_is_an_option_of_the_provider() -> None:
    assert options.options_of(BOTH) == {"fuse_conv_bias": "1", "prefer_nhwc": "1"}
    assert options.options_of(NONE) == {}


class Spoiled(Session):
    """Computes right without options, and nothing with them."""

    def __init__(self, file: ModelFile, _: Device, shapes: object, given: dict[str, str]) -> None:
        assert given
        super().__init__(file, replace(cpu(2), streams=1))

    def run(self, tiles: NDArray[Any], *, owner: object = None) -> list[NDArray[Any]]:
        return [output * 0 for output in super().run(tiles)]


def test_options_that_were_set_and_spoil_the_results_are_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "Session", Spoiled)

    with pytest.raises(ConfigurationError, match=r"worker\.cuda_options = fuse_conv_bias: .* computes wrong values"):
        precision.with_options(on_cpu(), replace(device(""), cuda_options="fuse_conv_bias"))


def test_options_that_were_measured_and_no_longer_work_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "Session", Spoiled)
    monkeypatch.setattr(precision, "fastest_here", lambda *_: FUSED)

    assert precision.with_options(on_cpu(), replace(device(""), cuda_options="auto")) is on_cpu()
