"""What clients send: the bodies of submits. A member that is not known is refused."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field
from msgspec.structs import force_setattr

from penstock.core.events import BatchEventType, TaskEventType
from penstock.core.output import (
    Background,
    Bits,
    Chroma,
    Color,
    Dpi,
    Format,
    MaxBytes,
    Metadata,
    OutputOptions,
    Quality,
)
from penstock.core.task import Priority
from penstock.pixels.headers import TAKEN

IMAGE_URL, UPLOAD_ID = "input.image_url", "input.upload_id"
"""What errors call the two members of `input`."""

MAX_INLINE = 1_000
MAX_LINES = 50_000

_URI = {"format": "uri"}
_IMAGE_URL = f"http(s) URL, data: URI of a {TAKEN} in any form, or s3://bucket/key where that is allowed"

ClientRequestId = Annotated[
    str,
    Meta(min_length=1, max_length=128, pattern=r"^[!-~]+(?!\n)$", description="1 to 128 visible ASCII characters"),
]
CustomId = Annotated[str, Meta(min_length=1, max_length=128, description="the client's name for the line")]
UploadId = Annotated[str, Meta(pattern=r"^upl_[0-9a-f]{32}(?!\n)$", description="of POST /v1/uploads")]

ModelName = Annotated[str, Meta(min_length=1, max_length=128)]
TaskMetadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
StartWithin = Annotated[float, Meta(ge=1, le=604_800, description="not started by then: the task ends as EXPIRED")]
FinishWithin = Annotated[float, Meta(ge=5, le=604_800, description="from submit to end; the twin of Cancel-After")]
Timeout = Annotated[
    float,
    Meta(
        ge=1,
        le=86_400,
        description="of the work of one attempt, not of its waits behind others; at most worker.task_timeout_s",
    ),
]
ResultTtl = Annotated[int, Meta(ge=60, le=604_800, description="task and result are deleted this long after its end")]
MayReuse = Annotated[
    bool, Meta(description="false: run it even if an equal task has a result; so does Cache-Control: no-cache")
]


class RequestBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything a client sends."""


class InputRequest(RequestBody, frozen=True):
    """The place of the image: exactly one of the two is set."""

    image_url: Annotated[str, Meta(min_length=1, description=_IMAGE_URL, extra_json_schema=_URI)] | UnsetType = UNSET
    upload_id: UploadId | UnsetType = UNSET


class UploadReference(RequestBody, frozen=True):
    """A file that was uploaded before, as a member of an input."""

    upload_id: UploadId


InputMembers = Annotated[dict[str, Any], Meta(extra_json_schema={"$ref": "#/components/schemas/InputRequest"})]
"""The members of an input by name, as the model declares them; see `intake.given`."""


class OutputRequest(RequestBody, frozen=True):
    """How a result image is written. `source` is the format of the input, jpg is another word for jpeg. PNG and TIFF
    are always lossless, `lossless` makes WebP so: about as small, and up to three times as fast to write. A PNG may
    have 16 `bits` where the model computes with as many. `metadata: keep` keeps the EXIF of the input that describes
    the photo, without its places unless `keep_location` is set. What a format cannot do is refused."""

    format: Literal[Format, "jpg"] = "png"
    quality: Quality = 90
    lossless: bool = False
    max_bytes: MaxBytes | None = None
    chroma: Chroma | None = None
    background: Background | None = None
    dpi: Dpi | None = None
    bits: Bits = 8
    color: Color = "srgb"
    metadata: Metadata = "strip"
    keep_location: bool = False

    def __post_init__(self) -> None:
        """Keep one word for one format."""
        if self.format == "jpg":
            force_setattr(self, "format", "jpeg")

    @property
    def options(self) -> OutputOptions:
        """The same as a record has it."""
        return msgspec.convert(self, OutputOptions, from_attributes=True)


class RetryRequest(RequestBody, frozen=True):
    """How often a transient failure is tried; at most as often as the operator allows."""

    max_attempts: Annotated[int, Meta(ge=1, le=10)]


class WebhookRequest(RequestBody, frozen=True):
    """Whom to tell what happens to the task, by Standard Webhooks 1.0."""

    url: Annotated[str, Meta(min_length=1, description="https URL that takes a signed POST", extra_json_schema=_URI)]
    events: Annotated[tuple[TaskEventType, ...], Meta(min_length=1, description="default: every end")] = (
        "succeeded",
        "failed",
        "canceled",
        "expired",
    )


class LinksRequest(RequestBody, frozen=True):
    """What the links of the answer can do: with `token`, whoever has it may read the task, without a key."""

    token: Annotated[bool, Meta(description="answer a token that opens status, events and result of this task")] = False
    ttl_s: Annotated[int, Meta(ge=60, le=604_800, description="how long the token works")] = 86_400


class TaskRequest(RequestBody, frozen=True):
    """A task to run. The same `client_request_id` with the same body names the same task."""

    model: ModelName
    input: InputMembers
    params: dict[str, Any] = {}
    output: OutputRequest = OutputRequest()
    priority: Priority = Priority.NORMAL
    client_request_id: ClientRequestId | None = None
    metadata: TaskMetadata = {}
    start_within_s: StartWithin | None = None
    finish_within_s: FinishWithin | None = None
    timeout_s: Timeout | None = None
    result_ttl_s: ResultTtl | None = None
    retry: RetryRequest | None = None
    webhook: WebhookRequest | None = None
    reuse: MayReuse = True
    links: LinksRequest = LinksRequest()


class LineMembers(RequestBody, frozen=True):
    """The members of a task, any of which a line of a batch may leave out."""

    model: ModelName | UnsetType = UNSET
    input: InputMembers | UnsetType = UNSET
    params: dict[str, Any] | UnsetType = UNSET
    output: OutputRequest | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    metadata: TaskMetadata | UnsetType = UNSET
    start_within_s: StartWithin | UnsetType | None = UNSET
    finish_within_s: FinishWithin | UnsetType | None = UNSET
    timeout_s: Timeout | UnsetType | None = UNSET
    result_ttl_s: ResultTtl | UnsetType | None = UNSET
    retry: RetryRequest | UnsetType | None = UNSET
    webhook: WebhookRequest | UnsetType | None = UNSET
    reuse: MayReuse | UnsetType = UNSET


class BatchDefaults(LineMembers, frozen=True):
    """Members of every line that does not have them itself; a member is taken whole, not merged."""


class BatchLine(LineMembers, frozen=True, kw_only=True):
    """One line: a task, and its `custom_id`, which no other line of the batch has. What it does not say is as the
    defaults of the batch have it; `priority` is low unless one of them says otherwise."""

    custom_id: CustomId


class BatchWebhookRequest(RequestBody, frozen=True):
    """Whom to tell that a batch has ended, by Standard Webhooks 1.0."""

    url: Annotated[str, Meta(min_length=1, description="https URL that takes a signed POST")]
    events: Annotated[tuple[BatchEventType, ...], Meta(min_length=1, description="default: both")] = (
        "completed",
        "canceled",
    )


class BatchOptions(RequestBody, frozen=True):
    """The options of a batch as a whole. The same `client_request_id` with the same lines names the same batch."""

    defaults: Annotated[dict[str, Any], Meta(extra_json_schema={"$ref": "#/components/schemas/BatchDefaults"})] = field(
        default_factory=dict
    )
    client_request_id: ClientRequestId | None = None
    metadata: TaskMetadata = field(default_factory=dict)
    webhook: BatchWebhookRequest | None = None
    result_ttl_s: (
        Annotated[int, Meta(ge=60, le=604_800, description="the batch is deleted this long after its end")] | None
    ) = None


class BatchRequest(BatchOptions, frozen=True):
    """A batch whose lines are here, or are those of an uploaded JSONL file: one of the two."""

    lines: (
        Annotated[
            tuple[Annotated[Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/BatchLine"})], ...],
            Meta(min_length=1, max_length=MAX_INLINE),
        ]
        | UnsetType
    ) = UNSET
    upload_id: UploadId | UnsetType = UNSET
