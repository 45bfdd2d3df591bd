"""What a tenant may use: the quotas of each, from those of all tenants and those of its own. Pure."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

Amount = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""What a quota allows; 0 means no limit. Numbers of Redis' scripts and of JSON are exact up to here."""

QuotaName = Literal[
    "requests_per_minute",
    "submits_per_minute",
    "tasks_waiting",
    "tasks_running",
    "redis_bytes",
    "storage_bytes",
    "device_seconds_per_day",
    "batch_lines",
]

QUOTAS: tuple[QuotaName, ...] = get_args(QuotaName)
"""The names of the fields of `Quotas`, in their order."""


OwnQuotas = Mapping[QuotaName, Amount]
"""Some quotas of a single tenant; those that it does not name are as for all."""


class Quotas(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one tenant may use, all of its keys together, counted over all API processes; 0 means no limit."""

    requests_per_minute: Amount = 0
    """Requests with a right key in any 60 s, whatever they are answered."""
    submits_per_minute: Amount = 0
    """Submits in any 60 s; a whole batch is one."""
    tasks_waiting: Amount = 0
    """Tasks that wait at a time, for whatever model."""
    tasks_running: Amount = 0
    """Tasks that run at a time; further ones wait, and the tasks of other tenants pass them."""
    redis_bytes: Amount = 0
    """Bytes of the records of its tasks, batches and uploads in Redis."""
    storage_bytes: Amount = 0
    """Bytes of its inputs, uploads and results in the storage."""
    device_seconds_per_day: Amount = 0
    """Seconds that its tasks may keep a device busy between midnight and midnight, in UTC."""
    batch_lines: Amount = 0
    """Unfinished lines of all of its batches together."""

    def changed_by(self, own: OwnQuotas) -> "Quotas":
        """Return these quotas with those that `own` names in place of them."""
        return Quotas(**{name: own.get(name, getattr(self, name)) for name in QUOTAS})


NO_QUOTAS = Quotas()


@lru_cache(maxsize=10_000)
def text_of(quotas: Quotas) -> str:
    """Return `name=number` of each quota that limits something, as the scripts of Redis read them; '' for none."""
    amounts = ((name, getattr(quotas, name)) for name in QUOTAS)
    return " ".join(f"{name}={amount}" for name, amount in amounts if amount)
