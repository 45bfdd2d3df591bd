"""The request of a client: the part of a task's record that never changes. Pure."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from penstock.core.events import Webhook
from penstock.core.output import Bits as Bits
from penstock.core.output import Format as Format
from penstock.core.output import OutputOptions as OutputOptions


class Source(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The place of one member of the input: a `url` to fetch, a `key` in the storage, its bytes in `data` where they
    are few, or the `value` of a JSON member.

    What is under the key came with the task and may be in Redis instead, unless it is an `upload`, which other tasks
    may use as well. When `sha256` is given, a worker refuses an input with another digest. `content_type` and `name`
    are what the client says of a file.
    """

    url: str | None = None
    key: str | None = None
    data: bytes | None = None
    upload: str | None = None
    sha256: str | None = None
    value: Any | UnsetType = UNSET
    content_type: str | None = None
    name: str | None = None


class Line(Struct, frozen=True, kw_only=True):
    """The line of a batch that a task runs: the client's name for it, and its number in the file, from 1."""

    batch: str
    custom_id: str
    number: int


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stored request, with the `inputs` by their names. Defaults are omitted, so that a waiting task takes 1 KB of
    Redis beside its input.

    `model` is the id of a model's version, which names its queue; `version` and `digest` are those that it had when the
    task was submitted, and `guessed` the members of its definition that were guesses then.
    """

    model: str
    inputs: dict[str, Source]
    params: dict[str, Any]
    output: OutputOptions
    version: str = ""
    digest: str = ""
    guessed: tuple[str, ...] = ()
    client_request_id: str | None = None
    metadata: dict[str, str] = {}
    traceparent: str | None = None
    webhook: Webhook | None = None
    line: Line | None = None
