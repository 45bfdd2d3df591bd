"""The files of the pages: styles, scripts and the libraries that they use, as they are in the package.

Their path has a digest of all of them, so that browsers keep them for good and never mix those of two versions.
"""

import gzip
import hashlib
from functools import cache
from pathlib import Path

from litestar import Response, get
from litestar.params import FromPath
from msgspec import Struct

from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import BY_URL
from penstock.errors import NotFound

FOLDER = Path(__file__).parent / "assets"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOR_GOOD = "public, max-age=31536000, immutable"


class Asset(Struct, frozen=True):
    """A file as it is sent: plain, and compressed."""

    media_type: str
    plain: bytes
    gzipped: bytes


@cache
def bundle() -> dict[str, Asset]:
    """Return all files by their path in the folder."""
    files = sorted(path for path in FOLDER.rglob("*") if path.suffix in TYPES)
    return {path.relative_to(FOLDER).as_posix(): _asset(path) for path in files}


@cache
def digest() -> str:
    """Return a word that is another one when any file is."""
    whole = hashlib.sha256()
    for name, asset in bundle().items():
        whole.update(name.encode() + b"\0" + asset.plain)
    return whole.hexdigest()[:12]


def path_of(name: str) -> str:
    """Return the path of a file below the console."""
    return f"/assets/{digest()}/{name}"


@get("/assets/{version:str}/{name:path}", opt=BY_URL, sync_to_thread=False)
def send_asset(request: ApiRequest, version: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """Send a file. Raises NotFound, also for the version of another release."""
    asset = bundle().get(str(name).removeprefix("/")) if version == digest() else None
    if asset is None:
        raise NotFound("there is no such file of the console; load the page again")
    headers = {"Cache-Control": FOR_GOOD, "Vary": "Accept-Encoding"}
    if b"gzip" not in request.scope["state"]["headers"].get(b"accept-encoding", b""):
        return Response(asset.plain, media_type=asset.media_type, headers=headers)
    return Response(asset.gzipped, media_type=asset.media_type, headers=headers | {"Content-Encoding": "gzip"})


def _asset(path: Path) -> Asset:
    data = path.read_bytes()
    return Asset(TYPES[path.suffix], data, gzip.compress(data, mtime=0))
