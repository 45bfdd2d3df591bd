"""The audit: every act that changes the work or the keys of others is written down before it is answered as done."""

from typing import Any, Literal

from loguru import logger

from penstock.api.http.auth import ApiRequest
from penstock.api.services import Services
from penstock.store import AuditRecord

AuditedAct = Literal[
    "queue.pause",
    "queue.resume",
    "queue.purge",
    "worker.drain",
    "worker.resume",
    "model.default",
    "model.load",
    "model.unload",
    "task.cancel",
    "task.delete",
    "task.retry",
    "task.redeliver",
    "tasks.cancel",
    "tasks.delete",
    "tasks.retry",
    "batch.cancel",
    "batch.delete",
    "batch.redeliver",
    "key.create",
    "key.rotate",
    "key.revoke",
    "tokens.revoke",
    "quotas.set",
    "quotas.reset",
]


async def write_down(act: AuditedAct, subject: str, request: ApiRequest, services: Services, **details: Any) -> None:
    """Add an act that was done to the audit, and to the log.

    Raises StoreUnavailable: the client does not hear then that the act was done, and repeats it.
    """
    caller = request.auth
    if caller.home is not None:
        details["of_tenant"] = caller.tenant
    record = AuditRecord(
        by=caller.id,
        tenant=caller.home or caller.tenant,
        act=act,
        subject=subject,
        address=request.app.state.addresses.of(request.scope),
        request_id=request.scope["state"]["request_id"],
        details={name: value for name, value in details.items() if value is not None},
    )
    await services.home.audit.add(record)
    logger.bind(by=caller.id, tenant=record.tenant, subject=subject, **record.details).info(act)


async def write_down_elsewhere(
    act: AuditedAct, subject: str, request: ApiRequest, services: Services, **details: Any
) -> None:
    """Write down an act in another tenant; what a caller does in its own is its own affair. Raises StoreUnavailable."""
    if request.auth.home is not None:
        await write_down(act, subject, request, services, **details)
