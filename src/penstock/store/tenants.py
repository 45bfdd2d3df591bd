"""TenantStore: the tenants that have tasks or batches, for the work that goes over all of them."""

from collections.abc import Sequence
from itertools import product

from penstock.core.task import State
from penstock.store.engine import Engine
from penstock.store.keys import tenants_of

TOGETHER = 100
"""Tenants that one script looks at."""


class TenantStore:
    """The known tenants. Every method raises StoreUnavailable when Redis cannot be reached."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def known(self) -> list[str]:
        """Return the names of all tenants with tasks or batches, and the default one, sorted."""
        (names,) = await self._engine.pipelined([("SMEMBERS", self._engine.keys.tenants)])
        return tenants_of(names)

    async def count_tasks(self) -> dict[State, int]:
        """Return how many tasks of all tenants are in each state."""
        places = list(product(State, await self.known()))
        counts = await self._engine.pipelined(
            [("ZCARD", self._engine.keys.state(name, state)) for state, name in places]
        )
        total = dict.fromkeys(State, 0)
        for (state, _), count in zip(places, counts, strict=True):
            total[state] += count
        return total

    async def loads(self, tenants: Sequence[str]) -> list[tuple[int, int]]:
        """Return how many tasks of each of these tenants wait and run."""
        keys = [self._engine.keys.state(name, state) for name in tenants for state in (State.PENDING, State.RUNNING)]
        counts = await self._engine.pipelined([("ZCARD", key) for key in keys])
        return list(zip(counts[::2], counts[1::2], strict=True))

    async def tidy(self) -> int:
        """Forget the tenants of which nothing is left. Return how many."""
        known = await self.known()
        count = 0
        for at in range(0, len(known), TOGETHER):
            some = known[at : at + TOGETHER]
            live = " ".join(state for state in State if not state.is_final)
            count += await self._engine.run("tenants_tidy", states=" ".join(State), live=live, tenants=some)
        return count
