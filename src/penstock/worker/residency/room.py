"""Which model makes room for which: the order in which they go, and when one in use has had its time."""

from collections.abc import Collection, Iterable

from penstock.worker.residency.resident import Resident

TURN_LOADS = 5
"""A model in use keeps its place for this many times as long as it took to load. Where more models are in use than fit,
a sixth of the time goes into loads at most."""


def to_evict(residents: Iterable[Resident]) -> Resident | None:
    """The idle model that goes first: one that was told to, else the least recently used; None when all that may go are
    in use."""
    idle = [one for one in residents if one.may_be_evicted and one.is_idle]
    return min(idle, key=lambda one: (not one.is_closed, one.used_at), default=None)


def to_close(residents: Collection[Resident], now: float) -> Resident | None:
    """The model in use that should take no more tasks, so that it makes room: the one that is loaded longest, once it
    has had its turn; None when one is closed already, or none has."""
    if any(one.is_closed and one.runner is not None for one in residents):
        return None
    in_use = [one for one in residents if one.may_be_evicted and one.uses and now >= turn_ends_at(one)]
    return min(in_use, key=lambda one: one.ready_at, default=None)


def turn_ends_at(resident: Resident) -> float:
    """The moment from which a model in use may have to make room."""
    return resident.ready_at + TURN_LOADS * resident.load_s


def has_expired(resident: Resident, now: float) -> bool:
    """Whether a model was idle for longer than it is kept."""
    return resident.may_be_evicted and resident.is_idle and now >= expires_at(resident)


def expires_at(resident: Resident) -> float:
    """The moment from which an idle model is kept no longer."""
    return resident.used_at + resident.offer.keep_alive_s


def next_moment(residents: Iterable[Resident], now: float, *, is_full: bool) -> float | None:
    """The next moment at which time alone changes what there is to do: an idle model expires, one that has failed is
    tried again, or, where there is no room, one in use has had its turn. None when there is none."""
    moments = [one.try_at for one in residents if one.state == "failed"]
    for one in residents:
        if one.may_be_evicted and one.is_idle:
            moments.append(expires_at(one))
        elif is_full and one.may_be_evicted and not one.is_closed:
            moments.append(turn_ends_at(one))
    return min((moment for moment in moments if moment > now), default=None)
