"""Requests to the API, and a worker that claims, completes and registers itself through the store alone."""

import asyncio
import base64
import hashlib
import io
import os
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from penstock.core.lease import Lease
from penstock.core.task import Artifact, ErrorRecord, Outcome, Result
from penstock.intake.enqueue import KEPT_IN_RECORD_BYTES
from penstock.settings import QueueSettings, Settings
from penstock.storage import Storage
from penstock.store import Store, WorkerInfo, WorkerMemory

MODEL = "superres-x4"
URL = "https://images.example.com/photo.png"
WORKER = WorkerInfo(
    id="w0",
    device="cpu",
    host="here",
    models=(MODEL,),
    slots=4,
    running=1,
    state="READY",
    started=1_800_000_000_000,
    memory=WorkerMemory(process=400, tasks=30, tasks_limit=1000, device_limit=0, pinned=200),
)


def body(**changes: Any) -> dict[str, Any]:
    """Returns the body of a submit. A change to `image_url` goes into its place in the body."""
    image_url = changes.pop("image_url", URL)
    return {"model": MODEL, "input": {"image_url": image_url}} | changes


def image(width: int = 8, height: int = 6, format: str = "PNG", **options: Any) -> bytes:
    """Returns a small image."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, format, **options)
    return out.getvalue()


def photo(format: str = "PNG") -> bytes:
    """Returns an image that is too large to be kept in the record."""
    out = io.BytesIO()
    Image.effect_noise((160, 120), 100).save(out, format)
    assert len(out.getvalue()) > KEPT_IN_RECORD_BYTES
    return out.getvalue()


def large_photo() -> bytes:
    """Returns an image that is too large to stay in Redis."""
    out = io.BytesIO()
    Image.effect_noise((640, 480), 100).save(out, "PNG")
    assert len(out.getvalue()) > QueueSettings().inline_input_bytes
    return out.getvalue()


@cache
def scan_bomb(scans: int, side: int = 64) -> bytes:
    """Returns a progressive JPEG whose last scan is repeated: with 20,000 of 3000 pixels it has half a megabyte, and
    takes minutes to decode."""
    data = image(side, side, "JPEG", progressive=True, quality=50)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * scans + data[-2:]


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    """Returns the image as a data: URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def stored_objects(settings: Settings) -> list[str]:
    """Returns the keys of all stored objects, except the probes of readiness and the marker."""
    root = Path(settings.storage.directory) / settings.redis.namespace
    files = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    found = (path.relative_to(root).as_posix() for path in files)
    return sorted(key for key in found if not key.startswith((".unfinished", "probe", "installation")))


async def nothing_is_stored(settings: Settings, within_s: float = 30) -> None:
    """Returns when every object is deleted; a busy server leaves some of them to its upkeep."""
    async with asyncio.timeout(within_s):
        while stored_objects(settings):
            await asyncio.sleep(0.02)


async def claim(store: Store) -> Lease:
    """Claims the next task, which must exist."""
    lease = (await store.leases.claim(worker=WORKER.id, device=WORKER.device, models=[MODEL, "image-scoring-v1"])).lease
    assert lease is not None
    return lease


async def complete(store: Store, storage: Storage, data: bytes) -> Artifact:
    """Claims the next task and completes it with these bytes as its result."""
    (artifact,) = await complete_with(store, storage, {"result.png": data})
    return artifact


async def complete_with(store: Store, storage: Storage, files: dict[str, bytes]) -> tuple[Artifact, ...]:
    """Claims the next task and completes it with these files as its result, all of them images."""
    lease = await claim(store)
    artifacts = tuple([await _stored(storage, lease, name, data) for name, data in files.items()])
    timing = {"queue_ms": 1.0, "infer_ms": 2.5, "total_ms": 9.0}
    outcome = Outcome(result=Result(artifacts=artifacts), timing=timing, execution={"device": "cpu", "tiles": 4})
    assert await store.leases.complete(lease, outcome)
    return artifacts


async def _stored(storage: Storage, lease: Lease, name: str, data: bytes) -> Artifact:
    key = f"results/default/{lease.id}/{lease.token}" + (".png" if name == "result.png" else f"-{name}")
    await storage.put(key, data, "image/png")
    sha256 = hashlib.sha256(data).hexdigest()
    return Artifact(name=name, s3_key=key, size=len(data), sha256=sha256, content_type="image/png", width=32, height=24)


async def fail(store: Store) -> None:
    """Claims the next task and ends it in FAILED."""
    problem = ErrorRecord(code="image_decode_failed", message="the image is damaged", retryable=False)
    assert await store.leases.fail(await claim(store), Outcome(error=problem))
