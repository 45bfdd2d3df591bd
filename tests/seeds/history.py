"""What happened in a run: every command that Redis has done, in its order, every answer that a client got, and every
message that a receiver got. Two runs of one seed have the same digest of it."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from penstock.core.task import State
from penstock.store.scripts import TAKES
from tests.seeds.loop import SimulatedLoop
from tests.seeds.network import Link
from tests.seeds.server import BlockingRedis, Reply

ENDS = ("complete", "fail")


class Told(NamedTuple):
    """A message that the receiver has accepted."""

    at: float
    subject: str
    type: str
    seq: int


class Accepted(NamedTuple):
    """A task as its client knows it, and what it had asked for."""

    task_id: str
    at: float
    ends: str
    has_hook: bool
    may_expire: bool


class History:
    """The record of one run. `faults` are the rules that were broken at a step."""

    def __init__(self, loop: SimulatedLoop, redis: BlockingRedis, *, lines: bool = False) -> None:
        self.lines: list[str] | None = [] if lines else None
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.accepted: dict[str, Accepted] = {}
        self.batches: dict[str, int] = {}
        self.cancels: set[str] = set()
        """Tasks and batches that somebody has asked to cancel, whether he got an answer or not."""
        self.again: set[str] = set()
        """Tasks that somebody has asked to run again."""
        self.told: list[Told] = []
        self.commands = 0
        self._loop, self._redis = loop, redis
        self._digest = hashlib.blake2b(digest_size=8)
        self._claims: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self._ends: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)

    @property
    def digest(self) -> str:
        """A word for all that has happened so far."""
        return self._digest.hexdigest()

    def note(self, *words: object) -> None:
        """Write down what is no command."""
        line = f"{self._loop.time():.6f} {' '.join(map(str, words))}"
        self._digest.update(line.encode())
        self.counts[str(words[0])] += 1
        if self.lines is not None:
            self.lines.append(line)

    def watch(self, link: Link, command: Sequence[bytes], reply: Reply) -> None:
        """Take a command and its answer."""
        self.commands += 1
        word = command[0].upper()
        name = self._redis.names.get(command[1], "?") if word == b"EVALSHA" else ""
        head = f"{self._loop.time():.6f} {link.process.name} {link.number} {name or word.decode()}".encode()
        answer = b"" if word == b"INFO" else reply.raw
        whole = b" ".join((head, *command[1:], answer))
        self._digest.update(whole)
        if self.lines is not None:
            said = b" ".join(command[4:] if name else command[1:])[:300]
            self.lines.append(f"{head.decode()} {said!r} -> {answer[:200]!r}")
        if word == b"EVALSHA" and isinstance(reply.value, Exception):
            self._note_error(name, reply.value)
        elif name in ("claim", "claim_late"):
            self._note_claims(dict(zip(TAKES[name].names, command[4:], strict=False)), reply.value, name)
        elif name == "settle":
            self._note_end(dict(zip(TAKES[name].names, command[4:], strict=False)), reply.value)

    def _note_error(self, name: str, error: Exception) -> None:
        if "NOSCRIPT" not in str(error):
            self.faults.append(f"the script {name} fails: {error}")

    def _note_claims(self, asked: dict[str, bytes], answer: list[list[object]], name: str) -> None:
        for one in [answer] if name == "claim_late" else answer:
            if not one[0]:
                continue
            task_id, epoch = one[0].decode(), int(one[1])  # type: ignore[attr-defined, call-overload]
            before = self._claims[task_id]
            if before and epoch <= max(before):
                self.faults.append(f"the claim {epoch} of a task came after the claim {max(before)}: {task_id}")
            before[epoch] = f"{epoch}-{asked['fence'].decode()}"

    def _note_end(self, asked: dict[str, bytes], answer: list[bytes]) -> None:
        verb, task_id, token = (asked[name].decode() for name in ("verb", "id", "token"))
        if answer[0] != b"ok":
            self.counts["ends refused"] += 1
            return
        ends, claims = self._ends[task_id], self._claims[task_id]
        if (verb, token) in ends:
            self.counts["ends repeated"] += 1
            return
        if token in [other for _, other in ends]:
            self.faults.append(f"one claim has ended twice: {task_id} {token} by {verb}")
        if not claims or token != claims[max(claims)]:
            self.faults.append(f"an attempt has ended its task by a lease that was lost: {task_id} {token} by {verb}")
        if verb in ENDS and task_id not in self.again and any(other in ENDS for other, _ in ends):
            self.faults.append(f"a task has ended twice: {task_id} {token} by {verb}")
        ends.append((verb, token))


FINAL_EVENTS = {
    State.SUCCESS: "succeeded",
    State.FAILED: "failed",
    State.CANCELED: "canceled",
    State.EXPIRED: "expired",
}
