"""Task stores on a real Redis, each in its own namespace, and submissions to fill them."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from penstock.core.batch import BatchPlan, new_batch_id
from penstock.core.events import EventType, Webhook
from penstock.core.lease import Lease
from penstock.core.request import OutputOptions, Request, Source
from penstock.core.submission import Submission, input_keys
from penstock.core.task import Priority, new_task_id
from penstock.core.upload import new_upload_id, upload_key
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import (
    BatchStore,
    Claim,
    Condemned,
    Engine,
    Redis,
    Store,
    UploadStore,
    WorkerInfo,
    connect,
)

MODEL = "superres-x4"
PHOTO_URL = "https://example.com/photo.jpg"
HOOK = "https://hooks.example.com/told"


@asynccontextmanager
async def open_store(redis_url: str, *, namespace: str | None = None, **queue: Any) -> AsyncIterator[Store]:
    """Opens a store with these queue settings. Its keys are deleted at the end unless the caller named the
    namespace."""
    name = namespace or f"test-{secrets.token_hex(6)}"
    async with connect(RedisSettings(url=redis_url, namespace=name)) as client:
        yield Store(Engine(client, name, QueueSettings(**queue)))
        if namespace is None:
            await drop(client, name)


@asynccontextmanager
async def open_condemned(redis_url: str, store: Store) -> AsyncIterator[Condemned]:
    """Opens the list of objects that are to be deleted for the tasks of a store."""
    async with connect(RedisSettings(url=redis_url)) as client:
        yield Condemned(Engine(client, store.namespace, QueueSettings()))


async def drop(client: Redis, namespace: str) -> None:
    """Deletes every key of a namespace."""
    async for key in client.scan_iter(match=f"{{{namespace}}}:*", count=1000):
        await client.delete(key)


def submission(
    *,
    model: str = MODEL,
    priority: Priority = Priority.NORMAL,
    tenant: str = "default",
    caller: str = "alice",
    cost: int = 1000,
    client_request_id: str | None = None,
    fingerprint: str = "f",
    max_retries: int = 3,
    start_within_s: float | None = None,
    finish_within_s: float | None = None,
    result_ttl_s: int = 3600,
    reuse_digest: str | None = None,
    must_run: bool = False,
    tell: tuple[EventType, ...] = (),
    tell_where: str = HOOK,
    uploads: Sequence[str] = (),
) -> Submission:
    """Returns a submission with default values for whatever the test does not set. Each of the uploads is a member of
    its own; the same one may be several members."""
    used = {f"used-{n}": Source(upload=one, key=upload_key("default", one)) for n, one in enumerate(uploads)}
    request = Request(
        model=model,
        inputs=used or {"image": Source(url=PHOTO_URL)},
        params={},
        output=OutputOptions(),
        client_request_id=client_request_id,
        webhook=hook(*tell, url=tell_where) if tell else None,
    )
    return Submission(
        id=new_task_id(),
        tenant=tenant,
        caller=caller,
        priority=priority,
        cost=cost,
        request=request,
        fingerprint=fingerprint,
        max_retries=max_retries,
        timeout_s=60,
        start_within_s=start_within_s,
        finish_within_s=finish_within_s,
        result_ttl_s=result_ttl_s,
        reuse_digest=reuse_digest,
        must_run=must_run,
    )


def own_input(made: Submission, *, members: int = 1, inline: bool = False, size: int = 100) -> Submission:
    """Returns a submission with so many members of this size that came with it, beside its uploads. They are stored
    under its id, or stay in Redis if they are `inline`."""
    keys = input_keys(made.tenant, made.id, [f"own-{n}" for n in range(members)])
    own = {name: Source(key=key) for name, key in keys.items()}
    used = {name: source for name, source in made.request.inputs.items() if source.upload}
    return replace(
        made,
        request=replace(made.request, inputs=used | own),
        input_bytes=size * members,
        inline={key: f"{n}".encode() * size for n, key in enumerate(keys.values())} if inline else {},
    )


def hook(*events: EventType, url: str = HOOK) -> Webhook:
    """Returns a webhook for these events."""
    return Webhook(url=url, events=events, base_url="http://here/")


async def submit(store: Store, **options: Any) -> str:
    """Submits without a rate limit and returns the id."""
    return (await store.tasks.submit(submission(**options), rate_limit=0)).id


async def open_batch(batches: BatchStore, *, lines: int, is_started: bool = True) -> str:
    """Opens and starts a batch without limits, and returns its id. The lines are made while it is fed."""
    batch_id = new_batch_id()
    await batches.open(batch_id, "default", "alice", rate_limit=0, most=10**6, client_request_id=None)
    if is_started:
        plan = BatchPlan(defaults={}, starts=(0,), base_url="", traceparent="", webhook=hook("completed", "canceled"))
        await batches.start(batch_id, "default", "alice", plan, total=lines, ttl_s=3600, fingerprint="f")
    return batch_id


async def open_upload(uploads: UploadStore, *, upload_id: str = "", **options: Any) -> str:
    """Opens an upload without limits and returns its id."""
    upload_id = upload_id or new_upload_id()
    said = {"tenant": "default", "caller": "alice", "size": 5, "content_type": "image/png", "sha256": None}
    times = {"token": None, "url_ttl_s": 60, "late_s": 0, "unused_ttl_s": 60, "rate_limit": 0}
    await uploads.open(upload_id, **said | times | options)
    return upload_id


async def claim(store: Store, worker: str = "w1", **options: Any) -> Claim:
    """Claims a task of the one model of these tests."""
    return await store.leases.claim(**{"worker": worker, "device": "cpu", "models": [MODEL]} | options)


async def lease_of(store: Store, worker: str = "w1", **options: Any) -> Lease:
    """Claims a task, which must exist."""
    lease = (await claim(store, worker, **options)).lease
    assert lease is not None
    return lease


def worker_info(worker: str = "w1", models: tuple[str, ...] = (MODEL,)) -> WorkerInfo:
    """Returns the description that a worker gives of itself."""
    return WorkerInfo(id=worker, device="cpu", host="here", models=models, slots=4, running=1, state="READY", started=0)
