"""RunningCaps: how many tasks of each tenant may run at once. Claims hold them, of whatever worker."""

from collections.abc import Mapping

from penstock.store.engine import Engine

EVERYBODY = "*"
"""Stands for each tenant that has no cap of its own. No tenant has this name."""


class RunningCaps:
    """The caps of all tenants. Every method raises StoreUnavailable when Redis cannot be reached."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def set(self, caps: Mapping[str, int]) -> bool:
        """Set the cap of each tenant, and that of all others under EVERYBODY, in place of all that were set before; 0
        is none. Returns whether this has changed anything.

        From now on no claim makes more tasks of a tenant run than that. Tasks that run already go on.
        """
        pairs = [part for tenant, cap in sorted(caps.items()) for part in (tenant, cap)]
        return bool(await self._engine.run("caps", caps=pairs if any(caps.values()) else []))

    async def review(self) -> int:
        """Let tenants have tasks again that wait at a cap which was raised. Returns at how many places.

        The end of a task lets its tenant have the next one at once; a round finds what was missed.
        """
        return int(await self._engine.run("unpark"))
