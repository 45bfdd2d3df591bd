"""Builds the bodies of submits, and the paths of requests."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Required, TypedDict
from urllib.parse import quote

import msgspec

from penstock.client.inputs import Source, input_of


class Output(TypedDict, total=False):
    """How a result image is written. `source` is the format of the input. `quality` (1 to 100) is of jpeg, webp and
    avif, and so is `max_bytes`, for which the quality is lowered; `chroma` is of jpeg and avif, `dpi` of png, jpeg and
    tiff, `lossless` of webp. The `background`, such as `#fff`, is put under what is transparent. `metadata: keep` keeps
    the EXIF that describes the photo, with its places only if `keep_location` is set."""

    format: Literal["png", "jpeg", "jpg", "webp", "avif", "tiff", "source"]
    quality: int
    lossless: bool
    max_bytes: int
    chroma: Literal["444", "422", "420"]
    background: str
    dpi: int
    bits: Literal[8, 16]
    color: Literal["srgb", "keep"]
    metadata: Literal["strip", "keep"]
    keep_location: bool


class LinkOptions(TypedDict, total=False):
    """What the links of the answer can do: with `token`, which works for `ttl_s`, whoever has it may read the task."""

    token: bool
    ttl_s: int


class WebhookOptions(TypedDict, total=False):
    """The URL that is told of these events of a task; of every end, but not of progress, without `events`."""

    url: Required[str]
    events: Sequence[Literal["succeeded", "failed", "canceled", "expired", "progress"]]


class BatchWebhookOptions(TypedDict, total=False):
    """The URL that is told of these ends of a batch; of both without `events`."""

    url: Required[str]
    events: Sequence[Literal["completed", "canceled"]]


class Shared(TypedDict, total=False):
    """Options that any number of tasks can share; the server has defaults for what is left out."""

    params: Mapping[str, object]
    output: Output
    priority: Literal["high", "normal", "low"]
    metadata: Mapping[str, str]
    start_within_s: float
    finish_within_s: float
    timeout_s: float
    result_ttl_s: int
    max_attempts: int
    reuse: bool
    webhook: WebhookOptions


class Options(Shared, total=False):
    """Options of one task."""

    client_request_id: str
    links: LinkOptions


class BatchOptions(Shared, total=False):
    """Options of a batch: those of its tasks, and those of the batch itself. `batch_ttl_s` is how long it is kept after
    its end."""

    client_request_id: str | None
    batch_metadata: Mapping[str, str]
    batch_webhook: BatchWebhookOptions
    batch_ttl_s: int


OF_A_BATCH = {"batch_metadata": "metadata", "batch_webhook": "webhook", "batch_ttl_s": "result_ttl_s"}
"""What the API calls the options of the batch itself."""


def new_request_id() -> str:
    """Returns a new `client_request_id`, which makes a submit safe to repeat."""
    return f"py-{uuid.uuid4().hex}"


def body_of(source: Source, model: str, options: Options) -> bytes:
    """The body of a submit, with a `client_request_id` in any case, which makes it safe to repeat.

    Raises OSError when a path cannot be read.
    """
    said = {"client_request_id": new_request_id()} | _said(options)
    return msgspec.json.encode({"model": model, "input": input_of(source)} | said)


def batch_of(sources: Mapping[str, Source]) -> bytes:
    """The lines of a batch as JSONL.

    Raises OSError when a path cannot be read.
    """
    lines = (msgspec.json.encode({"custom_id": name, "input": input_of(source)}) for name, source in sources.items())
    return b"\n".join(lines)


def batch_options(model: str, options: BatchOptions) -> dict[str, str]:
    """What is said of a batch and of all its lines, as the query of its submit."""
    lines = _said(options)
    batch = {name: lines.pop(option) for option, name in OF_A_BATCH.items() if option in lines}
    batch["client_request_id"] = lines.pop("client_request_id", None) or new_request_id()
    batch["defaults"] = ({"model": model} if model else {}) | lines
    return {"options": msgspec.json.encode(batch).decode()}


def _said(options: Mapping[str, Any]) -> dict[str, Any]:
    said = dict(options)
    attempts = said.pop("max_attempts", None)
    if attempts is not None:
        said["retry"] = {"max_attempts": attempts}
    return said


class EmptyName(ValueError):
    """An id or a name that would stand in a path is empty."""


def upload_path(upload_id: str) -> str:
    """Returns the path of an upload. Raises ValueError for an empty id."""
    if not upload_id:
        raise EmptyName("the id of an upload is empty")
    return f"/v1/uploads/{segment(upload_id)}"


def batch_path(batch_id: str) -> str:
    """Returns the path of a batch. Raises ValueError for an empty id."""
    if not batch_id:
        raise EmptyName("the id of a batch is empty")
    return f"/v1/batches/{quote(batch_id, safe='')}"


def task_path(task_id: str) -> str:
    """Returns the path of a task. Raises ValueError for an empty id."""
    if not task_id:
        raise EmptyName("the id of a task is empty")  # else the request would go to the path of all tasks
    return f"/v1/tasks/{segment(task_id)}"


def result_path(task_id: str, name: str | None = None) -> str:
    """Returns the path of a result, or of the file of this name in it. Raises ValueError for an empty id or name."""
    if name == "":
        raise EmptyName("the name of a file is empty")
    return f"{task_path(task_id)}/result" + (f"/{segment(name)}" if name else "")


def segment(name: str) -> str:
    """Quotes a name as one segment of a path. Raises ValueError for an empty one."""
    if not name:
        raise EmptyName("the name is empty")  # else the request would go to another path
    return quote(name, safe="")
