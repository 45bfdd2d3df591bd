"""Whether clients can use the links that they are given: the storage is used through them, as a client does it.

What stores and fetches for the server takes another way: other endpoint, other signer. A wrong region or a public
endpoint that leads elsewhere shows only here.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from penstock.errors import ResultExpired
from penstock.lazy_import import lazy_import
from penstock.storage import Storage, UploadLink

if TYPE_CHECKING:
    from penstock.net import egress
else:
    egress = lazy_import("penstock.net.egress")

DATA = b"what a client sends and fetches\n"
OTHER_DATA = DATA[::-1]
DIGEST = hashlib.sha256(DATA).hexdigest()
TYPE = "text/plain"

_CODE = re.compile(rb"<Code>(\w{1,64})</Code>")
_REGION = re.compile(rb"<Region>([\w-]{1,64})</Region>")
_PUBLIC_ADVICE = (
    "storage.s3_public_endpoint (or storage.s3_endpoint) must be the scheme, host and port of the bucket's own server, "
    "without a path, and a proxy there must pass the Host header on"
)
_REACH_ADVICE = "check storage.s3_public_endpoint; if clients reach that host and only this one does not, all is well"


class Trouble(Struct, frozen=True, kw_only=True):
    """A link that does not work. One that this host cannot reach may still work for clients: then it is not certain."""

    found: str
    advice: str
    is_certain: bool = True


class LinkReport(Struct, frozen=True, kw_only=True):
    """What was found; `compares_digests` says whether the bucket refuses bytes that have not the sha256 announced, None
    where uploads do not work."""

    host: str
    troubles: tuple[Trouble, ...]
    compares_digests: bool | None


async def check_links(storage: Storage) -> LinkReport | None:
    """Fetch a small object by a link and send some; nothing of them stays. None: this storage gives no links.

    Raises StorageUnavailable when the storage itself cannot be used.
    """
    keys = [f"probe/{secrets.token_hex(16)}" for _ in range(3)]
    link = await storage.url(keys[0], TYPE, "probe.txt")
    if link is None:
        return None
    try:
        return await _used(storage, link, *keys)
    finally:
        await storage.delete(*keys)


async def _used(storage: Storage, link: str, stored: str, sent: str, other: str) -> LinkReport:
    await storage.put(stored, DATA, TYPE)
    tried = (await _download(link), await _upload(storage, sent))
    troubles = tuple(trouble for trouble in tried if trouble)
    return LinkReport(
        host=urlsplit(link).netloc,
        troubles=troubles,
        compares_digests=None if tried[1] else await _compares_digests(storage, other),
    )


async def _download(link: str) -> Trouble | None:
    what = f"a link to download from {urlsplit(link).netloc}"
    try:
        answer = await egress.exchange("GET", link)
    except egress.NoAnswer as error:
        return _unreachable(what, error)
    if answer.status != 200:
        return _refused(what, answer)
    if answer.body != DATA:
        return Trouble(found=f"{what}: other bytes than were stored", advice=_PUBLIC_ADVICE)
    return None


async def _upload(storage: Storage, key: str) -> Trouble | None:
    link = await _upload_link(storage, key, DIGEST)
    what = f"a link to upload to {urlsplit(link.url).netloc}"
    try:
        answer = await _send(link, DATA)
        if not _is_success(answer) and _is_success(await _send(await _upload_link(storage, key, None), DATA)):
            found = f"{what}: {_said(answer)} when the sha256 is announced, taken when it is not"
            return Trouble(found=found, advice="clients of this bucket must open uploads without sha256")
    except egress.NoAnswer as error:
        return _unreachable(what, error)
    if not _is_success(answer):
        return _refused(what, answer)
    return None if await _holds(storage, key) else Trouble(found=f"{what}: taken, but not there", advice=_PUBLIC_ADVICE)


async def _compares_digests(storage: Storage, key: str) -> bool | None:
    try:
        return not _is_success(await _send(await _upload_link(storage, key, DIGEST), OTHER_DATA))
    except egress.NoAnswer:
        return None


async def _holds(storage: Storage, key: str) -> bool:
    try:
        return await storage.get(key, limit=len(DATA)) == DATA
    except ResultExpired:
        return False


async def _upload_link(storage: Storage, key: str, digest: str | None) -> UploadLink:
    link = await storage.upload_link(key, size=len(DATA), content_type=TYPE, sha256=digest)
    if link is None:
        raise TypeError("a storage that gives links to download gives some to upload too")
    return link


async def _send(link: UploadLink, data: bytes) -> egress.HttpAnswer:
    return await egress.exchange("PUT", link.url, headers=link.headers, data=data)


def _is_success(answer: egress.HttpAnswer) -> bool:
    return 200 <= answer.status < 300


def _refused(what: str, answer: egress.HttpAnswer) -> Trouble:
    region = _REGION.search(answer.body)
    if region:
        return Trouble(found=f"{what}: {_said(answer)}", advice=f"set storage.s3_region to {region[1].decode()}")
    return Trouble(found=f"{what}: {_said(answer)}", advice=_PUBLIC_ADVICE)


def _unreachable(what: str, error: Exception) -> Trouble:
    return Trouble(found=f"{what}: {error}", advice=_REACH_ADVICE, is_certain=False)


def _said(answer: egress.HttpAnswer) -> str:
    code = _CODE.search(answer.body)
    return f"{answer.status} {code[1].decode()}" if code else f"{answer.status}, and not as S3 does"
