"""What the client asked for: the part of a task's record that never changes. Pure."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from penstock.core.events import Webhook

Format = Literal["png", "jpeg", "webp"]


class OutputOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a result image is written."""

    format: Format = "png"
    quality: Annotated[int, Meta(ge=1, le=100)] = 90
    lossless: bool = False


class Source(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the input is: a URL to fetch, a storage key, or, if it is small, here. What lies under the key came with
    the task, or is an `upload`, which others may use too; nothing is run but what has the announced `sha256`."""

    url: str | None = None
    key: str | None = None
    data: bytes | None = None
    upload: str | None = None
    sha256: str | None = None


class Line(Struct, frozen=True, kw_only=True):
    """Which line of a batch a task is: the client's name for it, and its number in what was sent, from 1."""

    batch: str
    custom_id: str
    number: int


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the client asked for: the body of the record, never changed after submit. What is not said is not written:
    a waiting task is to take no more than 1 KB of Redis beside its input."""

    model: str
    source: Source
    params: dict[str, Any]
    output: OutputOptions
    client_request_id: str | None = None
    metadata: dict[str, str] = {}
    traceparent: str | None = None
    webhook: Webhook | None = None
    line: Line | None = None
