"""The lease of a task: the timed right of a worker to run one attempt, and what follows when it fails. Pure."""

import random
from functools import cached_property

from msgspec import Struct

from penstock.core.request import Request
from penstock.core.task import Priority, Verb
from penstock.errors import PenstockError


class Lease(Struct, frozen=True, kw_only=True, dict=True):
    """The timed right to run one task; every write of its holder carries `id` and `token`.

    `waited_ms` is how long the task has waited, `promised_ms` the time until its end that its client was told, None
    where none was; `device_ms` is the expected time on the device, None while no task of the model has been measured.
    """

    id: str
    epoch: int
    fence: str
    tenant: str
    caller: str
    priority: Priority
    failures: int
    crashes: int
    max_retries: int
    timeout_s: float
    waited_ms: float
    request: Request
    promised_ms: int | None = None
    device_ms: float | None = None

    @cached_property
    def token(self) -> str:
        """The number of the claim, and a random word that no other claim of any task has.

        The number alone is not enough: a Redis that lost its last second gives the same number again.
        """
        return f"{self.epoch}-{self.fence}"

    @cached_property
    def key(self) -> str:
        """A key of the attempt. A worker may get the same task again while an old attempt still runs."""
        return f"{self.id} {self.token}"


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Exponential backoff with full jitter (Amazon Builders' Library, "Timeouts, retries, and backoff")."""

    base_s: float
    cap_s: float

    def delay_ms(self, failures: int) -> int:
        """A random wait before retry number `failures` (1 is the first), uniform in 0..min(cap, base·2^(n-1))."""
        # 2**32 seconds exceed every cap; a larger exponent would only make the number too large for a float.
        bound = min(self.cap_s, self.base_s * 2 ** min(failures - 1, 32))
        return int(random.uniform(0, bound) * 1000)  # noqa: S311  jitter is no secret


def is_suspect(lease: Lease) -> bool:
    """Whether a worker died while it ran the task. It runs alone then, so that it takes no other task with it."""
    return lease.crashes > 0


def verdict(error: PenstockError, lease: Lease) -> Verb:
    """RETRY for a transient error while retries are left, else FAIL."""
    return Verb.RETRY if error.retryable and lease.failures < lease.max_retries else Verb.FAIL
