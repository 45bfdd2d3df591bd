"""Results that are sent to a real S3 server while their tiles come."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from penstock.core.lease import Lease
from penstock.core.request import OutputOptions, Request, Source
from penstock.core.task import Priority
from penstock.models import tiling
from penstock.pixels.encoding import encode
from penstock.pixels.picture import Picture
from penstock.settings import StorageSettings
from penstock.storage import open_storage
from penstock.worker.spool import Spool
from tests.support import repeat_model
from tests.support.repeat_model import MODEL, SCALE, Watched
from tests.support.s3_server import BUCKET, s3_client
from tests.support.workers import pipeline


async def test_the_first_part_is_in_the_bucket_before_half_of_the_tiles_are_done(
    s3_server: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "AHEAD_BYTES", 0)  # or repeating pixels would be far ahead of their encoding
    watched = Watched()
    monkeypatch.setattr(repeat_model, "WATCHED", watched)
    photo = np.random.default_rng(3).integers(0, 256, (800, 500, 3), np.uint8)
    source = Source(data=encode(Picture(photo), OutputOptions()))
    request = Request(model=MODEL, inputs={"image": source}, params={"noise": True}, output=OutputOptions())
    lease = Lease(
        id="tsk_1", epoch=1, fence="f", tenant="default", caller="alice", priority=Priority.NORMAL, failures=0,
        crashes=0, max_retries=0, timeout_s=60, waited_ms=0, request=request,
    )  # fmt: skip
    begun_at: list[int] = []
    client = s3_client(s3_server)

    def look(tiles: int) -> None:
        if not begun_at and client.list_multipart_uploads(Bucket=BUCKET, Prefix="streamed/results/").get("Uploads"):
            begun_at.append(tiles)

    watched.before_infer = look
    async with open_storage(s3_server, "streamed") as storage:
        spool = Spool(storage, directory="", max_bytes=0)
        async with pipeline(storage, MODEL, spool=spool) as running:
            outcome = await running.run(lease, lambda stage, progress: None)
        assert outcome.result is not None
        (file,) = outcome.result.artifacts
        stored = await storage.get(file.s3_key)
        assert [one async for one in storage.list_unfinished("results/")] == []

    assert begun_at[0] < watched.tiles / 2
    assert file.size == len(stored) > 15_000_000
    assert file.sha256 == hashlib.sha256(stored).hexdigest()
    image = Image.open(io.BytesIO(stored))
    image.load()
    assert image.size == (500 * SCALE, 800 * SCALE)
