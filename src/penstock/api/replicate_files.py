"""/replicate/v1/files: where Replicate's client puts an open file before it names it in a prediction.

Nothing is kept: the URL that stands for the file is a data: URI, which is the file itself.
"""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

from litestar import post
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from penstock.api.bodies import body_of
from penstock.api.problems import documented
from penstock.api.schemas import Moment, View
from penstock.api.services import ApiRequest
from penstock.errors import InvalidRequest, MalformedRequest, PayloadTooLarge, UnsupportedMediaType

MEDIA_TYPE = "multipart/form-data"
CONTENT = "content"
MOST_PARTS = 16


class FileUrls(View, frozen=True):
    """Where the file is: a data: URI."""

    get: str


class FileView(View, frozen=True):
    """A file to be named in the input of predictions by `urls.get`; it is not kept here."""

    id: str
    name: str
    content_type: str
    size: int
    etag: str
    checksums: dict[str, str]
    metadata: dict[str, Any]
    created_at: Moment
    expires_at: Moment | None
    urls: FileUrls


@post(
    "/files",
    operation_id="createFile",
    tags=["replicate"],
    summary="Turn a file into a URL for a prediction",
    description="Nothing is stored: `urls.get` of the answer is a data: URI with the whole file.",
    status_code=201,
    responses=documented(MalformedRequest, PayloadTooLarge, UnsupportedMediaType, InvalidRequest),
)
async def create_file(request: ApiRequest) -> FileView:
    """Whether it is an image is found out when a prediction is made with it."""
    declared, options = parse_options_header(request.headers.get("content-type", ""))
    if declared != MEDIA_TYPE:
        raise UnsupportedMediaType(f"send the file as {MEDIA_TYPE}")
    segment, data = _content(await body_of(request), options.get("boundary", ""))
    digest = hashlib.sha256(data).hexdigest()
    return FileView(
        id=f"file_{digest[:24]}",
        name=segment.filename or CONTENT,
        content_type=segment.content_type or "application/octet-stream",
        size=len(data),
        etag=digest,
        checksums={"sha256": digest},
        metadata={},
        created_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        expires_at=None,
        urls=FileUrls(get=f"data:;base64,{base64.b64encode(data).decode()}"),
    )


def _content(body: bytes, boundary: str) -> tuple[MultipartSegment, bytes]:
    """The part of this name. Raises MalformedRequest, InvalidRequest."""
    parts: list[tuple[MultipartSegment, bytearray]] = []
    try:
        with PushMultipartParser(boundary, max_segment_count=MOST_PARTS) as parser:
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    parts.append((event, bytearray()))
                elif event:
                    parts[-1][1].extend(event)
    except (MultipartError, ValueError) as error:
        raise MalformedRequest(f"the body is not {MEDIA_TYPE}") from error
    for segment, data in parts:
        if segment.name == CONTENT:
            return segment, bytes(data)
    raise InvalidRequest("the file is missing", param=CONTENT)
