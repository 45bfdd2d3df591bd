"""Two pools of connections, so that endpoints which hang do not hold up those that answer.

| an endpoint whose last delivery | deliveries at once, to it | to all such endpoints |
| --- | --- | --- |
| was answered within PROMPT_S | PROMPT_EACH | PROMPT_AT_ONCE |
| was not, or that is new | OTHERS_EACH | OTHERS_AT_ONCE |

With one pool, as many hanging endpoints as it has connections would hold up everybody for a whole timeout. A delivery
that lasts longer than PROMPT_S leaves the prompt pool without being broken off, so that endpoints which begin to hang
occupy that pool for PROMPT_S at most, however many they are.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping

from penstock.store import LeasedEvent
from penstock.store.outbox import Quota

PROMPT_S = 1.0
"""An endpoint that answers within this time is prompt."""

PROMPT_AT_ONCE, OTHERS_AT_ONCE = 256, 768
"""Deliveries in flight in one process; each holds a socket and little else. A delivery that left the prompt pool counts
in the other one, which may then hold more than this."""

PROMPT_EACH, OTHERS_EACH = 4, 1
"""Deliveries in flight to one endpoint. A new, slow or silent endpoint gets one at a time until it answers promptly."""

DeliveryTask = asyncio.Task[None]


class EndpointPools:
    """The deliveries that are in flight in this process, each in one of the two pools."""

    def __init__(self) -> None:
        self._endpoints: dict[DeliveryTask, str] = {}
        self._prompt: set[DeliveryTask] = set()

    def enter(self, delivery: DeliveryTask, leased: LeasedEvent) -> None:
        """Count a delivery that begins."""
        self._endpoints[delivery] = leased.endpoint
        if leased.is_prompt:
            self._prompt.add(delivery)

    def leave_prompt(self, delivery: DeliveryTask) -> bool:
        """Move a delivery that has lasted PROMPT_S to the other pool; False when it was there already."""
        was_prompt = delivery in self._prompt
        self._prompt.discard(delivery)
        return was_prompt

    def leave(self, delivery: DeliveryTask) -> None:
        """Forget a delivery that has ended."""
        del self._endpoints[delivery]
        self._prompt.discard(delivery)

    @property
    def deliveries(self) -> list[DeliveryTask]:
        """All deliveries in flight."""
        return list(self._endpoints)

    @property
    def under_way(self) -> Mapping[str, int]:
        """The number of deliveries in flight to each endpoint."""
        return Counter(self._endpoints.values())

    @property
    def prompt(self) -> Quota:
        """What is left of the prompt pool."""
        return Quota(PROMPT_AT_ONCE - len(self._prompt), PROMPT_EACH)

    @property
    def others(self) -> Quota:
        """What is left of the pool for all other endpoints; less than nothing while late deliveries overfill it."""
        return Quota(OTHERS_AT_ONCE - (len(self._endpoints) - len(self._prompt)), OTHERS_EACH)

    @property
    def are_full(self) -> bool:
        """No delivery may begin."""
        return self.prompt.most <= 0 and self.others.most <= 0
