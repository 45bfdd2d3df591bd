"""The bodies of webhook events: the task, batch or prediction as a client would read it."""

import msgspec

from penstock.api.replicate.predictions import STATUS, OutputLinks, prediction_view
from penstock.api.schemas.batches import batch_view
from penstock.api.schemas.render import links, moment, task_view
from penstock.core.batch import Batch
from penstock.core.events import Event, Webhook
from penstock.core.task import State, Task
from penstock.storage import Storage
from penstock.webhooks import Body

MAX_BODY_BYTES = 20_000
"""Standard Webhooks recommends payloads below 20 kB."""


def body_of(storage: Storage, output_links: OutputLinks) -> Body:
    """Return the function that writes the JSON body of an event.

    The body has the task or batch as a client reads it. When that is too long, or the subject has moved on since the
    event, the body has only the ids and links that are needed to read it.
    """

    async def body(subject: Task | Batch, event: Event, webhook: Webhook) -> str:
        if isinstance(subject, Batch):
            return _batch(subject, event)
        if webhook.dialect == "replicate":
            return _prediction(subject, event, webhook, output_links).decode()
        return await _task(subject, event, webhook, storage)

    return body


async def _task(task: Task, event: Event, webhook: Webhook, storage: Storage) -> str:
    about = {"type": f"task.{event.type}", "timestamp": moment(event.at)}
    if event.type == "progress" or event.kind == task.state:
        view = msgspec.to_builtins(await task_view(task, storage, webhook.base_url))
        del view["webhook"]  # its log of deliveries changes with every try, and this is one
        whole = msgspec.json.encode(about | {"data": view | {"sequence": event.seq}})
        if len(whole) < MAX_BODY_BYTES:
            return whole.decode()
    thin = {
        "task_id": task.id,
        "client_request_id": task.request.client_request_id,
        "status": task.state if event.type == "progress" else event.kind,
        "links": msgspec.to_builtins(links(task.id)),
        "sequence": event.seq,
    }
    return msgspec.json.encode(about | {"data": thin}).decode()


def _prediction(task: Task, event: Event, webhook: Webhook, output_links: OutputLinks) -> bytes:
    """The prediction itself, without an envelope, as Replicate sends it. It is as short as its params: a file is a URL.

    When the task has run again since, the body shows the end that the event is about, without its output.
    """
    view = prediction_view(task, webhook.base_url, output_links)
    if event.type != "progress" and event.kind != task.state:
        ended = {"status": STATUS[State(event.kind)], "completed_at": moment(event.at)}
        view = msgspec.structs.replace(view, output=None, error=None, metrics={}, **ended)
    return msgspec.json.encode(view)


def _batch(batch: Batch, event: Event) -> str:
    about = {"type": f"batch.{event.type}", "timestamp": moment(event.at)}
    view = msgspec.to_builtins(batch_view(batch))
    del view["webhook"]
    data = view | {"sequence": event.seq}
    if event.kind != batch.state or len(msgspec.json.encode(about | {"data": data})) >= MAX_BODY_BYTES:
        data = {name: view[name] for name in ("batch_id", "client_request_id", "links")}
        data |= {"status": event.kind, "sequence": event.seq}
    return msgspec.json.encode(about | {"data": data}).decode()
