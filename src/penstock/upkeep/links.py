"""Checks that clients can use the links they get, by using them as a client does, and that nobody gets in without one.

The server itself uses another endpoint and another signer. A wrong region, or a public endpoint that leads elsewhere,
shows only when a link is used.
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
ANY_PAGE = "https://any-page.example"
"""The origin of a page that no rule of a bucket is about."""
LIST_ONE = "?list-type=2&max-keys=1"

_CODE = re.compile(rb"<Code>(\w{1,64})</Code>")
_REGION = re.compile(rb"<Region>([\w-]{1,64})</Region>")
_PUBLIC_ADVICE = (
    "storage.s3_public_endpoint (or storage.s3_endpoint) must be the scheme, host and port of the S3 server, without a "
    "path, and a proxy in front of it must pass the Host header on"
)
_REACH_ADVICE = (
    "check storage.s3_public_endpoint; if only this machine cannot reach that host, clients are not affected"
)


class Trouble(Struct, frozen=True, kw_only=True):
    """A link that does not work, and what to do. It is not certain where this host cannot reach the place of the link:
    clients may still reach it."""

    problem: str
    advice: str
    is_certain: bool = True


class LinkReport(Struct, frozen=True, kw_only=True):
    """The result of a check. `compares_digests` says whether the bucket refuses bytes with another sha256 than was
    announced; None where uploads do not work. `is_public` is what anybody may do without a link, in words; empty for
    nothing. `stores_once` says whether the bucket refuses to replace a result, and `lets_pages_send` whether pages of
    any origin may send by its links."""

    host: str
    troubles: tuple[Trouble, ...]
    compares_digests: bool | None
    is_public: str
    stores_once: bool
    lets_pages_send: bool


async def check_links(storage: Storage) -> LinkReport | None:
    """Download a small object and upload others through links, and delete them again.

    Returns None for a storage without links. Raises StorageUnavailable when the storage itself cannot be used.
    """
    keys = [f"probe/{secrets.token_hex(16)}" for _ in range(3)]
    link = await storage.url(keys[0], TYPE, "probe.txt")
    if link is None:
        return None
    try:
        return await _report(storage, link, *keys)
    finally:
        await storage.delete(*keys)


async def _report(storage: Storage, link: str, stored: str, sent: str, other: str) -> LinkReport:
    await storage.put(stored, DATA, TYPE)
    download, upload = await _download(link), await _upload(storage, sent)
    return LinkReport(
        host=urlsplit(link).netloc,
        troubles=tuple(trouble for trouble in (download, upload) if trouble),
        compares_digests=None if upload else await _compares_digests(storage, other),
        is_public=await _is_public(link, storage.full_key(stored)),
        stores_once=await storage.stores_once(),
        lets_pages_send=await _lets_pages_send(storage, other),
    )


async def _download(link: str) -> Trouble | None:
    subject = f"a link to download from {urlsplit(link).netloc}"
    try:
        answer = await egress.exchange("GET", link)
    except egress.NoAnswer as error:
        return _unreachable(subject, error)
    if answer.status != 200:
        return _refused(subject, answer)
    if answer.body != DATA:
        return Trouble(problem=f"{subject}: other bytes than were stored", advice=_PUBLIC_ADVICE)
    return None


async def _upload(storage: Storage, key: str) -> Trouble | None:
    link = await _upload_link(storage, key, DIGEST)
    subject = f"a link to upload to {urlsplit(link.url).netloc}"
    try:
        answer = await _send(link, DATA)
        if not _is_success(answer) and _is_success(await _send(await _upload_link(storage, key, None), DATA)):
            problem = f"{subject}: {_error_in(answer)} when the sha256 is announced, accepted when it is not"
            return Trouble(problem=problem, advice="clients of this bucket must open uploads without sha256")
    except egress.NoAnswer as error:
        return _unreachable(subject, error)
    if not _is_success(answer):
        return _refused(subject, answer)
    if not await _holds(storage, key):
        return Trouble(problem=f"{subject}: accepted, but not stored", advice=_PUBLIC_ADVICE)
    return None


async def _compares_digests(storage: Storage, key: str) -> bool | None:
    try:
        return not _is_success(await _send(await _upload_link(storage, key, DIGEST), OTHER_DATA))
    except egress.NoAnswer:
        return None


async def _lets_pages_send(storage: Storage, key: str) -> bool:
    """Ask as a browser does before it sends for a page."""
    link = await _upload_link(storage, key, DIGEST)
    asked = {
        "Origin": ANY_PAGE,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": ",".join(sorted(link.headers.keys() - {"content-length"})),
    }
    try:
        answer = await egress.exchange("OPTIONS", link.url, headers=asked)
    except egress.NoAnswer:
        return False
    return _is_success(answer) and answer.headers.get("Access-Control-Allow-Origin") in ("*", ANY_PAGE)


async def _is_public(link: str, key: str) -> str:
    """Read an object and list the bucket without a signature. The page of a proxy is neither."""
    unsigned = link.partition("?")[0]
    tries = {"read": (unsigned, DATA), "list": (unsigned.removesuffix(key) + LIST_ONE, b"<ListBucketResult")}
    return " and ".join([what for what, (url, shown) in tries.items() if await _shows(url, shown)])


async def _shows(url: str, expected: bytes) -> bool:
    try:
        answer = await egress.exchange("GET", url)
    except egress.NoAnswer:
        return False
    return _is_success(answer) and expected in answer.body


async def _holds(storage: Storage, key: str) -> bool:
    try:
        return await storage.get(key, limit=len(DATA)) == DATA
    except ResultExpired:
        return False


async def _upload_link(storage: Storage, key: str, digest: str | None) -> UploadLink:
    link = await storage.upload_link(key, size=len(DATA), content_type=TYPE, sha256=digest)
    if link is None:
        raise TypeError("a storage with links to download has links to upload as well")
    return link


async def _send(link: UploadLink, data: bytes) -> egress.HttpAnswer:
    return await egress.exchange("PUT", link.url, headers=link.headers, data=data)


def _is_success(answer: egress.HttpAnswer) -> bool:
    return 200 <= answer.status < 300


def _refused(subject: str, answer: egress.HttpAnswer) -> Trouble:
    region = _REGION.search(answer.body)
    advice = f"set storage.s3_region to {region[1].decode()}" if region else _PUBLIC_ADVICE
    return Trouble(problem=f"{subject}: {_error_in(answer)}", advice=advice)


def _unreachable(subject: str, error: Exception) -> Trouble:
    return Trouble(problem=f"{subject}: {error}", advice=_REACH_ADVICE, is_certain=False)


def _error_in(answer: egress.HttpAnswer) -> str:
    code = _CODE.search(answer.body)
    return f"{answer.status} {code[1].decode()}" if code else f"{answer.status} without an error code of S3"
