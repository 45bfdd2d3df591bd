"""Examples of batches, of their lines and of the manifest."""

import msgspec

from penstock.api.description.examples.parameters import BATCH_ID, CURSOR, IMAGE, TASK_ID
from penstock.api.description.examples.tasks import SCORE
from penstock.api.schemas.batches import BatchList, BatchView, CountsView, LineResultView, LineView, batch_links
from penstock.api.schemas.tasks import ProgressView, ResponseBody
from penstock.core.batch import BatchState
from penstock.core.task import State

REQUEST = {
    "defaults": {"model": "image-scoring-v1"},
    "lines": [{"custom_id": "photo 1", "input": {"image_url": IMAGE}}],
    "client_request_id": "album-42",
}
LINES = f'''{{"custom_id": "photo 1", "model": "image-scoring-v1", "input": {{"image_url": "{IMAGE}"}}}}
{{"custom_id": "photo 2", "model": "superres-x4", "input": {{"image_url": "{IMAGE}"}}}}
'''

BATCH = BatchView(
    batch_id=BATCH_ID,
    status=BatchState.RUNNING,
    client_request_id="album-42",
    created_at="2026-11-22T09:00:00.000Z",
    finished_at=None,
    expires_at=None,
    counts=CountsView(
        total=50_000, waiting=48_700, queued=490, running=10, succeeded=799, failed=1, canceled=0, expired=0
    ),
    progress=ProgressView(ratio=0.016, unit="lines", done=800, total=50_000),
    eta_s=2952.0,
    defaults={"model": "image-scoring-v1"},
    metadata={"album": "42"},
    webhook=None,
    links=batch_links(BATCH_ID),
)
MANIFEST = (
    msgspec.json.Encoder()
    .encode_lines(
        [
            LineView(
                line=1,
                custom_id="photo 1",
                task_id=TASK_ID,
                status=State.SUCCESS,
                result=LineResultView(
                    url=f"http://127.0.0.1:8000/v1/tasks/{TASK_ID}/result",
                    content_type="application/json",
                    size=None,
                    sha256=None,
                    width=None,
                    height=None,
                    data=SCORE,
                    files=(),
                    notes=(),
                ),
                error=None,
            )
        ]
    )
    .decode()
)

ANSWERS: tuple[ResponseBody, ...] = (
    BATCH,
    BatchList(data=(BATCH,), has_more=True, next_cursor=CURSOR),
)
