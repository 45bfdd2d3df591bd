"""What somebody else writes: all of the client. Under `mypy --strict --disallow-any-expr` none of it may be Any. What a
model returns as JSON is left out: that is Any to everybody."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from penstock.client import (
    AsyncClient,
    AuditEntry,
    Batch,
    Client,
    Explanation,
    FaultyModel,
    Hit,
    Key,
    Line,
    Mapped,
    Model,
    NewKey,
    PenstockApiError,
    Queue,
    Quote,
    Readiness,
    ServerSettings,
    Stats,
    StoredUpload,
    Submitted,
    Task,
    Tenant,
    TenantQuotas,
    Upload,
    UsageReport,
    Worker,
    failure_of,
)


def tasks(client: Client, photo: Path) -> PenstockApiError | None:
    upload: Upload = client.upload(photo)
    quote: Quote = client.quote(upload, "superres-x4", output={"format": "webp", "quality": 80})
    submitted: Submitted = client.submit(
        upload,
        "superres-x4",
        priority="high",
        metadata={"album": "42"},
        finish_within_s=60,
        max_attempts=2,
        reuse=False,
        client_request_id="order-991",
        links={"token": True, "ttl_s": 60},
        webhook={"url": "https://example.com/told", "events": ["succeeded"]},
    )
    task_id: str = submitted.task_id
    token: str | None = submitted.token
    explained: Explanation = client.explain(task_id)
    codes: list[str] = [blocker.code for blocker in explained.blockers]
    for seen in client.watch(task_id):
        ratio: float | None = seen.progress.ratio if seen.progress else None
        print(ratio)
    task: Task = client.wait(task_id, timeout_s=60)
    data: bytes = client.result(task_id)
    path: Path = client.download(task_id, "photo.webp", name="mask.png")
    paths: Sequence[Path] = client.download_all(task_id, "out")
    log: str = client.log(task_id)
    again: list[Task] = [client.get(task_id, wait_s=3), client.cancel(task_id), client.retry(task_id)]
    told: Task = client.redeliver(task_id)
    client.delete(task_id)
    stored: StoredUpload = client.get_upload(upload.upload_id)
    client.delete_upload(stored.upload_id)
    print(quote.eta_s, token, codes, data, path, paths, log, again, told.status)
    return failure_of(task)


def many(client: Client, photos: Iterator[Path]) -> None:
    for mapped in client.map(photos, "image-scoring-v1", concurrency=4):
        one: Mapped = mapped
        print(one.error, one.task.status if one.task else None)
    for task in client.list(
        status=["FAILED"], model="m", key="web", error_code="internal", created_after=datetime(2026, 1, 1, tzinfo=UTC)
    ):
        attempts: Sequence[str] = [attempt.device for attempt in task.attempts]
        print(attempts)
    hits: list[Hit] = [
        client.cancel_matching(status=["PENDING"], metadata={"album": "42"}, dry_run=True),
        client.retry_matching(status=["FAILED"], every=True),
        client.delete_matching(status=["EXPIRED"], batch_id="bat_x"),
    ]
    batch: Batch = client.submit_batch(
        {"cat": Path("cat.jpg")},
        "superres-x4",
        params={"variant": "clean"},
        batch_metadata={"of": "cats"},
        batch_webhook={"url": "https://example.com/told"},
    )
    ended: Batch = client.wait_batch(client.submit_batch_file("lines.jsonl").batch_id, timeout_s=60)
    lines: Sequence[Line] = client.batch_lines(batch.batch_id, start=1)
    batches: list[Batch] = [*client.batches(), client.get_batch("bat_x"), client.cancel_batch("bat_x")]
    told: Batch = client.redeliver_batch(batch.batch_id)
    client.delete_batch(ended.batch_id)
    print(hits[0].matched, [line.custom_id for line in lines], batches, told.counts.failed)


def operate(client: Client) -> None:
    models: Sequence[Model] = client.models()
    faulty: Sequence[FaultyModel] = client.faulty_models()
    changed: list[Model] = [client.model("m"), client.load_model("m"), client.unload_model("m")]
    default: Model = client.set_default_model("m", "2")
    workers: Sequence[Worker] = client.workers()
    worker: list[Worker] = [client.drain_worker("w"), client.resume_worker("w")]
    queues: list[Sequence[Queue]] = [client.queues(), client.pause_queue("m"), client.resume_queue("m")]
    purged: int = client.purge_queue("m", priority="low", dry_run=True)
    stats: Stats = client.stats()
    usage: UsageReport = client.usage(tenant="*", first="2026-11-01")
    seconds: list[float] = [tenant.total.device_seconds for tenant in usage.data]
    ready: Readiness = client.readiness()
    settings: ServerSettings = client.server_settings()
    print(models, faulty, changed, default, workers, worker, queues, purged, stats.tasks, seconds)
    print(ready.warnings, settings.version)


def administer(client: Client) -> None:
    made: NewKey = client.create_key("acme", scopes=["read"], name="web", expires_in_s=60)
    keys: Sequence[Key] = client.keys(tenant="acme")
    key: list[Key] = [client.key("k"), client.revoke_key("k"), client.rotate_key("k", overlap_s=60).record]
    client.revoke_tokens("acme")
    tenants: Sequence[Tenant] = client.tenants()
    quotas: list[TenantQuotas] = [client.quotas("acme"), client.reset_quotas("acme")]
    wanted: Mapping[str, int] = {"tasks_running": 4}
    now: TenantQuotas = client.set_quotas("acme", wanted)
    for entry in client.audit():
        one: AuditEntry = entry
        print(one.act)
    print(made.key, keys, key, tenants, quotas, now.quotas)


async def also_in_asyncio(photo: Path) -> str:
    async with AsyncClient("http://127.0.0.1:8000", "a-key-of-16-characters", tenant="acme") as client:
        task: Task = await client.run(inputs={"image": photo}, model="superres-x4")
        listed: AsyncIterator[Task] = client.list()
        async for other in listed:
            print(other.status)
        return task.status


def handled(client: Client) -> float | None:
    try:
        client.run(b"", "superres-x4")
    except PenstockApiError as error:
        said: tuple[str, int, str | None, bool] = (error.code, error.status, error.param, error.retryable)
        print(said)
        return error.retry_after_s
    return None
