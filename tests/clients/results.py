"""With a client made by openapi-generator: score a photo twice in a batch, and read the results. URL KEY PHOTO"""

import base64
import json
import sys
import time
from pathlib import Path

from penstock_client import ApiClient, Configuration
from penstock_client.api.batches_api import BatchesApi
from penstock_client.api.tasks_api import TasksApi
from penstock_client.models.batch_line import BatchLine
from penstock_client.models.batch_request import BatchRequest
from penstock_client.models.image_scoring_v1_request import ImageScoringV1Request
from penstock_client.models.input_request import InputRequest
from penstock_client.models.line_view import LineView
from penstock_client.models.task_request import TaskRequest

MODEL = "image-scoring-v1"
MINE = {"album": "of openapi-generator"}


def main(url: str, key: str, photo: str) -> None:
    data = base64.b64encode(Path(photo).read_bytes()).decode()
    image = InputRequest(image_url=f"data:image/jpeg;base64,{data}")
    with ApiClient(Configuration(host=url, access_token=key)) as client:
        batches, tasks = BatchesApi(client), TasksApi(client)
        quote = tasks.quote_task(TaskRequest(ImageScoringV1Request(model=MODEL, input=image)))

        lines = [BatchLine(custom_id=f"photo {n}", model=MODEL, input=image, metadata=MINE) for n in "12"]
        batch = batches.submit_batch(BatchRequest(lines=lines))
        while batch.status != "COMPLETED":
            time.sleep(0.1)
            batch = batches.get_batch(batch.batch_id)
        rows = batches.get_batch_results(batch.batch_id).decode().splitlines()
        ended = [LineView.from_dict(json.loads(row)) for row in rows]

        album = {f"metadata.{name}": value for name, value in MINE.items()}
        there = tasks.list_tasks(metadata=album)
        hit = tasks.delete_tasks(status=["SUCCESS", "FAILED"], metadata=album, dry_run=True)
    read = [(row.custom_id, row.status, row.result.data["score"]) for row in ended if row and row.result]
    said = {
        "quoted": [quote.model, quote.input and quote.input.width],
        "lines": sorted(read),
        "listed": len(there.data),
        "would_delete": [hit.matched, hit.deleted],
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
