"""Who makes the inputs: Hypothesis, a mutator of valid inputs, and atheris where it is installed."""

import hashlib
import importlib.util
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from msgspec import Struct

from tools.fuzz.mutator import Mutator
from tools.fuzz.target import Target
from tools.fuzz.watch import Watch

Engine = Callable[[Target, Watch, "Order"], None]
"""Gives a watch one input after the other. Watches end the process after the last one."""

SHARE = 0.1
"""The share of the runs, and of the time, that Hypothesis has: it is slow, and remembers all inputs."""
MOST_BY_HYPOTHESIS, EACH_SECOND = 2000, 300


class Order(Struct, frozen=True):
    """What an engine is asked for. `corpus` has a folder for each target, with inputs that reached something new."""

    seed: int
    runs: int
    seconds: float
    corpus: Path

    def seeds(self, target: Target) -> list[bytes]:
        """Return valid inputs, and those that former runs have left."""
        left = sorted((self.corpus / target.name).glob("*"))
        return [*target.seeds(), *(file.read_bytes() for file in left)]

    def keep(self, data: bytes, target: Target) -> None:
        """Leave an input for further runs."""
        directory = self.corpus / target.name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def by_mutation(target: Target, watch: Watch, order: Order) -> None:
    """Edit valid inputs, and further ones whose outcome was new."""
    luck = random.Random(f"{target.name} {order.seed}")
    seeds = order.seeds(target)
    mutator = Mutator(seeds, target.words, target.most_bytes, luck)
    for data in seeds:
        watch.run(data)
    while True:
        data = mutator.made()
        if target.mended and luck.random() < 0.5:
            data = target.mended(data)
        watch.run(data)
        if watch.is_new:
            mutator.keep(data)
            order.keep(data, target)


def by_hypothesis(target: Target, watch: Watch, order: Order) -> None:
    """Let Hypothesis edit valid inputs, and put words together."""
    runs = min(MOST_BY_HYPOTHESIS, order.runs * SHARE, order.seconds * SHARE * EACH_SECOND)
    ends = time.monotonic() + order.seconds * SHARE

    @hypothesis.seed(order.seed)
    @hypothesis.settings(
        max_examples=max(1, int(runs)),
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=tuple(HealthCheck),
    )
    @hypothesis.given(inputs(order.seeds(target), target.words))
    def run(data: bytes) -> None:
        if time.monotonic() < ends:
            watch.run(data)

    run()


def inputs(seeds: Sequence[bytes], words: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy of valid inputs with a few edits, and of words and bytes in any order."""
    piece = st.one_of(st.binary(max_size=8), st.sampled_from(words)) if words else st.binary(max_size=8)
    edit = st.tuples(st.integers(0, 2000), piece, st.integers(0, 8))
    return st.one_of(
        st.builds(_edited, st.sampled_from(seeds), st.lists(edit, min_size=1, max_size=6)),
        st.lists(piece, max_size=12).map(b"".join),
    )


def _edited(data: bytes, edits: Sequence[tuple[int, bytes, int]]) -> bytes:
    for place, new, removed in edits:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + removed :]
    return data


def by_atheris(target: Target, watch: Watch, order: Order) -> None:
    """Let libFuzzer look for inputs that reach new code."""
    import atheris  # an extra of its own: it is large, and there are not wheels for all machines

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        made: bytes = atheris.Mutate(data, most)
        return target.mended(made)[:most] if target.mended and seed % 2 else made

    for data in target.seeds():
        order.keep(data, target)
    words = order.corpus / f"{target.name}.words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # it tells of every input that is new
    # The watch has limits of its own.
    flags = [f"-seed={order.seed % 2**31 or 1}", f"-max_len={target.most_bytes}", f"-dict={words}", "-timeout=100000"]
    flags += ["-rss_limit_mb=0", "-print_final_stats=0", f"-artifact_prefix={order.corpus}/"]
    options: dict[str, Any] = {"custom_mutator": mutated} if target.mended else {}
    atheris.Setup(["fuzz", *flags, str(order.corpus / target.name)], watch.run, **options)
    atheris.Fuzz()


def atheris_is_installed() -> bool:
    """Return whether atheris can be imported."""
    return importlib.util.find_spec("atheris") is not None


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{code:02x}" for code in word)
