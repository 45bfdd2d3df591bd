"""Where a version of a model is: on which workers, in which state, and whether they have the same files."""

from collections.abc import Iterable, Sequence

from penstock.core.model import Residence
from penstock.intake.estimates import READY, has_failed
from penstock.store import WorkerInfo

Resident = tuple[WorkerInfo, Residence]


def residents(model_id: str, workers: Iterable[WorkerInfo]) -> list[Resident]:
    """Return the READY workers that know this version, by id, and where it is on each of them."""
    known = [(worker, worker.residence[model_id]) for worker in workers if model_id in worker.residence]
    return sorted((one for one in known if one[0].state == READY), key=lambda one: one[0].id)


def failure(model_id: str, found: Sequence[Resident]) -> str | None:
    """Return why no worker can load a version now, None where one may, or none is there to say."""
    if not found or not all(has_failed(worker, model_id) for worker, _ in found):
        return None
    return found[0][1].reason or "no worker can load it"


def differing(model_id: str, workers: Iterable[WorkerInfo]) -> dict[str, tuple[str, ...]]:
    """Return the digests that workers have for one version, with the workers that have each; empty where they agree."""
    found: dict[str, tuple[str, ...]] = {}
    for worker, residence in residents(model_id, workers):
        if residence.digest:
            found[residence.digest] = (*found.get(residence.digest, ()), worker.id)
    return found if len(found) > 1 else {}
