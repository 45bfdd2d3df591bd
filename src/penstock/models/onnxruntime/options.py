"""The options of the CUDA provider with which a file runs fastest on this card: measured at a start, then remembered.

Which is fastest depends on the card and on the kernels of its cuDNN, so that no table could say it.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import IO

import msgspec
from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from penstock.core.device import Device
from penstock.errors import ConfigurationError, DeviceOutOfMemory
from penstock.models.base import DeviceBroken
from penstock.models.device_time import device_time
from penstock.models.onnxruntime import golden
from penstock.models.onnxruntime.identity import CardIdentity, card_identity
from penstock.models.onnxruntime.runtime import runtime_version
from penstock.models.onnxruntime.session import ModelFile

Names = tuple[str, ...]
Clock = Callable[[], float]
Open = Callable[[Names], golden.Runs]
"""Opens a session of a file with these options."""

CANDIDATES: tuple[Names, ...] = ((), ("fuse_conv_bias", "prefer_nhwc"), ("prefer_nhwc",), ("fuse_conv_bias",))
"""What is tried. By default each convolution adds its bias in a pass of its own, and values lie in planes, where tensor
cores read channels side by side. Those that save most come first: a slow card may try no more than two."""

BUDGET_S = 2.0
"""No further candidate is begun when a file has been measured for so long."""

RUNS, RUNS_S = 5, 0.3
"""The fastest of so many runs counts, or of as many as end within these seconds, but two."""

TRIES = 2
"""Starts that may end while they measure, after which no options are used: a candidate may end a process."""

WAIT_S, LOOK_S = 60.0, 0.1
"""How long a worker waits for another one that measures the same file, and how often it looks: the card of the other
may hang, which must not keep this one from its work."""

GAIN = 0.97
"""A candidate must take at most this share of the time of no options: less is noise."""


class Measurement(Struct, frozen=True, kw_only=True):
    """What was measured, as it is remembered: the names of the options that are used, and the milliseconds of each
    candidate that computes the golden answers. One that was begun and is not finished has ended its process."""

    file: str
    card: str
    options: Names = ()
    times_ms: dict[str, float] = {}
    begun: int = 0
    finished: bool = False


def options_of(names: Names) -> dict[str, str]:
    """The options of the provider with these names."""
    return dict.fromkeys(names, "1")


def named(text: str) -> Names | None:
    """The names in a setting, such as `fuse_conv_bias,prefer_nhwc`; None for `auto`."""
    if text == "auto":
        return None
    return () if text == "none" else tuple(sorted({part.strip() for part in text.split(",")}))


def fastest_here(open_session: Open, file: ModelFile, device: Device, shape: tuple[int, int]) -> Names:
    """The options with which this file runs fastest on the card of this process; none where the card does not say what
    it is, or has no room for one tile of this (height, width). Raises what `fastest` raises else."""
    with suppress(RuntimeError, DeviceOutOfMemory):
        if card := card_identity():
            return fastest(open_session, file, device, shape, card)
    return ()


def fastest(
    open_session: Open,
    file: ModelFile,
    device: Device,
    shape: tuple[int, int],
    card: CardIdentity,
    *,
    clock: Clock = perf_counter,
) -> Names:
    """The options with which this file runs a tile of this (height, width) fastest, among those with which it computes
    the golden answers. They are measured once for a card, its driver, the runtime and the file. Processes that start
    side by side wait WAIT_S for the one that measures, and then do without options.

    Raises what `golden.compare` raises for the file without options.
    """
    path = _path(file, device, shape, card)
    with _exclusive(path) as is_ours:
        known = _read(path) or Measurement(file=file.file, card=card.name)
        if is_ours and not known.finished and known.begun < TRIES:
            known = _kept(path, known, lambda begun: _measured(open_session, begun, device, shape, clock))
    if not known.finished:
        untried = logger.bind(file=file.file, remembered=str(path))
        untried.warning("options of CUDA not measured: processes have ended there, or one hangs")
    return known.options


def _kept(path: Path, known: Measurement, measure: Callable[[Measurement], Measurement]) -> Measurement:
    begun = replace(known, begun=known.begun + 1)
    _write(path, begun)  # stays where a candidate ends the process
    try:
        done = measure(begun)
    except _BrokeDevice:
        raise
    except Exception:
        _write(path, known)
        raise
    _write(path, done)
    return done


def _measured(
    open_session: Open, blank: Measurement, device: Device, shape: tuple[int, int], clock: Clock
) -> Measurement:
    times: dict[Names, float] = {}
    started = clock()
    for names in CANDIDATES:
        if times and clock() - started > BUDGET_S:
            break
        with suppress(_Refused):
            times[names] = _seconds(open_session, names, device, shape, clock)
    quickest = min(times, key=lambda names: times[names])
    chosen = quickest if times[quickest] <= GAIN * times[()] else ()
    in_ms = {"+".join(names) or "none": round(seconds * 1000, 3) for names, seconds in times.items()}
    logger.bind(file=blank.file, device=device.name, times_ms=in_ms, chosen=chosen).info("options of CUDA measured")
    return replace(blank, options=chosen, times_ms=in_ms, finished=True)


class _Refused(Exception):
    """A candidate cannot run, or computes wrong values."""


class _BrokeDevice(DeviceBroken):
    """Since a candidate ran, the device runs nothing. That start counts as one of the TRIES."""


def _seconds(open_session: Open, names: Names, device: Device, shape: tuple[int, int], clock: Clock) -> float:
    try:
        session = open_session(names)
        golden.compare(session, device, shape)
        return _fastest_s(session, shape, clock)
    except (ConfigurationError, DeviceBroken, DeviceOutOfMemory) as error:
        if not names:
            raise
        if isinstance(error, DeviceBroken):
            _check_device(open_session, device, shape)
        logger.bind(options=names, error=str(error)).info("options of CUDA cannot be used")
        raise _Refused from error


def _check_device(open_session: Open, device: Device, shape: tuple[int, int]) -> None:
    try:
        golden.compare(open_session(()), device, shape)
    except (ConfigurationError, DeviceBroken, DeviceOutOfMemory) as error:
        raise _BrokeDevice(str(error)) from error


def _fastest_s(session: golden.Runs, shape: tuple[int, int], clock: Clock) -> float:
    runs = [_run_s(session, shape, clock)]
    while len(runs) < 2 or (len(runs) < RUNS and sum(runs) < RUNS_S):
        runs.append(_run_s(session, shape, clock))
    return min(runs)


def _run_s(session: golden.Runs, shape: tuple[int, int], clock: Clock) -> float:
    batch = golden.batch_of("scene", *shape)
    with device_time() as noted:
        started = clock()
        session.run(batch)
        return noted.compute_s or clock() - started


# --- what is remembered ---------------------------------------------------------------------------------------


def _path(file: ModelFile, device: Device, shape: tuple[int, int], card: CardIdentity) -> Path:
    key = msgspec.json.encode((card, runtime_version(), file.sha256, shape, CANDIDATES))
    # Below /dev/null no file can be made: without a directory nothing is remembered.
    return Path(device.cache_dir or "/dev/null") / f"cuda-options-{hashlib.sha256(key).hexdigest()[:24]}.json"


@contextmanager
def _exclusive(path: Path) -> Iterator[bool]:
    """Yields False where another process has measured for WAIT_S."""
    # The system gives the lock back when a process dies. Where nothing can be written, each start measures.
    with ExitStack() as stack:
        is_ours = True
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            is_ours = _locked(stack.enter_context(path.with_suffix(".lock").open("w")))
        yield is_ours


def _locked(file: IO[str]) -> bool:
    give_up = monotonic() + WAIT_S
    while monotonic() < give_up:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        sleep(LOOK_S)
    return False


def _read(path: Path) -> Measurement | None:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Measurement)
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.options in CANDIDATES else None


def _write(path: Path, measurement: Measurement) -> None:
    unfinished = path.with_suffix(".new")
    with suppress(OSError):
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(measurement)))
        unfinished.replace(path)
