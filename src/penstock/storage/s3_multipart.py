"""Objects that are sent to a bucket in parts, while the later ones are still made."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from penstock.errors import ResultExpired, StorageUnavailable
from penstock.storage.call_spans import traced_calls
from penstock.storage.contract import Stored
from penstock.storage.s3_client import calling, code_of, is_unknown_to_server, no_page, with_etag

PART_BYTES = 5 * 2**20
"""The least that S3 takes, so that the first part is stored early; 10,000 of them are 49 GiB. All have one size, since
some servers take no others."""


@traced_calls
class MultipartWriter:
    """The PartWriter of an object in a bucket. One of a single part is put as any other."""

    part_bytes = PART_BYTES

    def __init__(self, client: Any, bucket: str, name: str, content_type: str) -> None:
        self._client = client
        self._object = {"Bucket": bucket, "Key": name}
        self._content_type = content_type
        self._upload: dict[str, str] = {}
        self._parts: list[dict[str, Any]] = []
        self._size = 0

    async def write(self, part: bytes) -> None:
        if not self._upload:
            async with calling():
                begun = await self._client.create_multipart_upload(**self._object, ContentType=self._content_type)
                self._upload = {"UploadId": no_page(begun)["UploadId"]}
        self._parts.append(await self._sent(part))
        self._size += len(part)

    async def publish(self, last: bytes) -> None:
        if not self._upload:
            async with calling(len(last)):
                put = self._client.put_object(**self._object, Body=last, ContentType=self._content_type)
                with_etag(no_page(await put))
            return
        try:
            parts = [*self._parts, *([await self._sent(last)] if last else ())]
            async with calling(self._size):  # some servers join the parts before they answer
                joined = self._client.complete_multipart_upload(
                    **self._object, **self._upload, MultipartUpload={"Parts": parts}
                )
                with_etag(no_page(await joined))
        except ResultExpired:
            # Where the answer to an earlier try was lost, the object is there, and its parts are gone.
            async with calling():
                found = with_etag(await self._client.head_object(**self._object))
            if found["ContentLength"] != self._size + len(last):
                raise

    async def discard(self) -> None:
        if self._upload:
            with suppress(StorageUnavailable):
                await abort(self._client, self._object | self._upload)

    async def _sent(self, part: bytes) -> dict[str, Any]:
        number = len(self._parts) + 1
        async with calling(len(part)):
            sent = self._client.upload_part(**self._object, **self._upload, PartNumber=number, Body=part)
            return {"PartNumber": number, "ETag": with_etag(no_page(await sent))["ETag"]}


async def abort(client: Any, upload: dict[str, str]) -> None:
    """Delete the parts of an upload; one that is gone is no error."""
    with suppress(ResultExpired):
        async with calling():
            no_page(await client.abort_multipart_upload(**upload))


async def unfinished(client: Any, bucket: str, root: str, place: str) -> AsyncIterator[Stored]:
    """Yield the uploads below a place, with keys below the root. None where the server knows no such list, or the key
    may not read it."""
    markers: dict[str, str] = {}
    while True:
        async with calling():
            answer = await _page_of(client, Bucket=bucket, Prefix=place, **markers)
            page = [_stored(entry, root) for entry in answer.get("Uploads", ())]
        for stored in page:
            yield stored
        if not answer.get("IsTruncated"):
            return
        markers = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer.get("NextUploadIdMarker", "")}


async def _page_of(client: Any, **asked: str) -> dict[str, Any]:
    from botocore.exceptions import ClientError

    try:
        return no_page(await client.list_multipart_uploads(**asked))
    except ClientError as error:
        if is_unknown_to_server(error.response) or code_of(error.response) == "AccessDenied":
            return {}
        raise


def _stored(entry: dict[str, Any], root: str) -> Stored:
    begun = int(entry["Initiated"].timestamp() * 1000)
    return Stored(str(entry["Key"]).removeprefix(root), 0, begun, str(entry["UploadId"]))
