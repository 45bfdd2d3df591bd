"""Who may take how many of the sockets: endpoints that answer promptly have a lane of their own, all others share one.

Without lanes, as many endpoints that hang as there are sockets would hold up everybody for a timeout. A delivery that
lasts longer than a prompt answer leaves the prompt lane without being broken off, so that endpoints which begin to hang
hold it up no longer than that, however many they are.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping

from penstock.store import LeasedEvent, Quota

PROMPT_S = 1.0
"""Whoever answers within this time is prompt."""

PROMPT_AT_ONCE, OTHERS_AT_ONCE = 256, 768
"""Deliveries under way in one process: each holds a socket and little else. Those that left the prompt lane count for
the other, and may be more than it would let in."""

PROMPT_EACH, OTHERS_EACH = 4, 1
"""To one endpoint. One that is new, slow or silent gets a single message at a time, until it answers promptly."""

Delivery = asyncio.Task[None]


class Lanes:
    """The deliveries under way."""

    def __init__(self) -> None:
        self._endpoints: dict[Delivery, str] = {}
        self._prompt: set[Delivery] = set()

    def enter(self, delivery: Delivery, leased: LeasedEvent) -> None:
        """It begins."""
        self._endpoints[delivery] = leased.endpoint
        if leased.is_prompt:
            self._prompt.add(delivery)

    def is_late(self, delivery: Delivery) -> bool:
        """It has lasted longer than a prompt answer; whether it was thought to be one."""
        was_prompt = delivery in self._prompt
        self._prompt.discard(delivery)
        return was_prompt

    def leave(self, delivery: Delivery) -> None:
        """It has ended."""
        del self._endpoints[delivery]
        self._prompt.discard(delivery)

    @property
    def deliveries(self) -> list[Delivery]:
        """All of them."""
        return list(self._endpoints)

    @property
    def under_way(self) -> Mapping[str, int]:
        """How many go to each endpoint."""
        return Counter(self._endpoints.values())

    @property
    def prompt(self) -> Quota:
        """For further ones to endpoints that are prompt."""
        return Quota(PROMPT_AT_ONCE - len(self._prompt), PROMPT_EACH)

    @property
    def others(self) -> Quota:
        """For further ones to all others."""
        return Quota(OTHERS_AT_ONCE - (len(self._endpoints) - len(self._prompt)), OTHERS_EACH)
