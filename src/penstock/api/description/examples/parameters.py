"""The values that several examples share, and the examples of parameters."""

TASK_ID = "tsk_019a9f3c5d108f3b2c71d04e6a95b8c2"
UPLOAD_ID = "upl_5f0c1d7a9b3e4286a1f4c07d92be63d8"
BATCH_ID = "bat_019a9f3c5d107be25d81c3f0927ad6e4"
DIGEST = "5d6a1f0e9c3b7a2488d1e0f4b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5"
CURSOR = "AAZg4T8OwsCOAYKyqQoMTg"
IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQMAAAAlPW0iAAAABlBMVEX6+vULZHWP+ekoAAAAIUlEQVR42mNgAAP2BwzyP0DI"
    "+g4I2f+BIgsZqDhQARgAACnSDF51b4ffAAAAAElFTkSuQmCC"
)
"""A picture of 16 x 16 pixels, so that examples can be run where no other host is reached."""
VERSION_ID = "0c2ad5e1b09f3d4768e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7"

EXAMPLES = {
    "task_id": TASK_ID,
    "batch_id": BATCH_ID,
    "options": '{"defaults": {"model": "image-scoring-v1"}}',
    "prediction_id": TASK_ID,
    "worker_id": "gpu1-cuda0-4f2a",
    "upload_id": UPLOAD_ID,
    "file_id": UPLOAD_ID,
    "output_id": TASK_ID,
    "file_name": f"{TASK_ID}.png",
    "result_name": "mask.png",
    "version": VERSION_ID,
    "owner": "penstock",
    "name": "superres-x4",
    "model": "superres-x4",
    "priority": "high",
    "error_code": "model_error",
    "id_prefix": "tsk_019a9f3c",
    "created_after": "2026-11-22T00:00:00Z",
    "created_before": "2026-11-23T00:00:00Z",
    "from": "2026-11-01",
    "to": "2026-11-30",
    "limit": 50,
    "wait": 30,
    "key_id": "4fQm1ZbT0xYk",
    "tenant": "acme",
    "overlap_s": 86_400,
    "Idempotency-Key": "order-991",
    "Cancel-After": "5m",
    "Cache-Control": "no-cache",
    "Prefer": "wait=30",
    "Range": "bytes=1048576-",
    "Last-Event-ID": "RUNNING.1.infer.6",
}
"""Examples by the name of the parameter; a name that means two things in two places has none."""
