"""Runs a target in a child process, which may crash, hang or grow, and says what became of it."""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import msgspec

from tools.fuzz.engines import Engine, Order, by_hypothesis
from tools.fuzz.target import Target
from tools.fuzz.watch import CurrentInput, Fault, Summary, Watch, written


def run(target: Target, engine: Engine, order: Order, faults: Path) -> Summary:
    """Run a target in a child: first with inputs of Hypothesis, then with those of the engine."""
    current = CurrentInput(target.most_bytes)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        file = Path(directory) / "summary.json"
        child = os.fork()
        if child == 0:
            _work(target, engine, order, current, faults, file)
        _, status = os.waitpid(child, 0)
        if file.exists():
            return msgspec.json.decode(file.read_bytes(), type=Summary)
    what = _ended_by(status)
    return Summary(faults=[Fault(what, str(written(current.last(), target, faults)))])


@contextmanager
def corpus_at(directory: Path | None) -> Iterator[Path]:
    """The directory of a corpus that is kept, or one for this run."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory
    else:
        with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as own:
            yield Path(own)


def _work(target: Target, engine: Engine, order: Order, current: CurrentInput, faults: Path, file: Path) -> NoReturn:
    def done(summary: Summary) -> NoReturn:
        file.write_bytes(msgspec.json.encode(summary))
        os._exit(0)  # atheris lets no exception pass

    gc.freeze()  # what is imported is not looked at again
    try:
        watch = Watch(target, current, faults, done, runs=order.runs, seconds=order.seconds)
        by_hypothesis(target, watch, order)
        engine(target, watch, order)
    except KeyboardInterrupt:
        os._exit(130)
    finally:
        os._exit(1)


def _ended_by(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGPROF:
        return "code in C took too long, and was killed"
    return f"the process was ended by {signal.Signals(-code).name}" if code < 0 else f"the process ended with {code}"
