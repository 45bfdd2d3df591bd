"""The upload: bytes that a client sends once and that any number of tasks can name. Pure.

    open ──▶ PENDING ──arrive──▶ READY ──retire──▶ deleted
                └───────────retire─────────────────▶ deleted

An upload that no task uses is retired after `storage.upload_ttl_s`, or by its owner. One in use is kept as long as its
tasks.
"""

import secrets
from enum import StrEnum
from typing import Any

from msgspec import Struct


class UploadState(StrEnum):
    """PENDING until the bytes have arrived, then READY. A deleted upload has no record, and so no state."""

    PENDING = "PENDING"
    READY = "READY"


class FileFacts(Struct, frozen=True, kw_only=True):
    """The name and the metadata of an upload that came through Replicate's files API, which lists it."""

    name: str
    metadata: dict[str, Any] = {}


class Upload(Struct, frozen=True, kw_only=True):
    """The record of an upload as it was read; times are ms since 1970 by the clock of Redis.

    - `size` in bytes and `sha256` in hex: what the owner announced, and what the bytes must have. Without an announced
      digest, it is known once the API itself has received the bytes.
    - `is_checked`: a process of Penstock has read all bytes and found this digest. A bucket may accept any bytes.
    - `token`: the digest of the secret that allows sending the bytes to the API, while `is_open`.
    - `due`: when it is deleted; None while `tasks`, the number of tasks that use it, is not 0.
    - `name`: what its owner calls the file, if they say so.
    - `file`: present for an upload that is listed as a file.
    """

    id: str
    tenant: str
    caller: str
    state: UploadState
    size: int
    content_type: str
    sha256: str | None
    is_checked: bool
    token: str | None
    created: int
    is_open: bool
    due: int | None
    tasks: int
    name: str | None = None
    file: FileFacts | None = None

    @property
    def key(self) -> str:
        """The storage key of the bytes."""
        return upload_key(self.tenant, self.id)


def upload_key(tenant: str, upload_id: str) -> str:
    """The storage key of the bytes of an upload."""
    return f"uploads/{tenant}/{upload_id}"


def new_upload_id() -> str:
    """A new id: `upl_` and 32 hex digits, all random: nobody can guess the upload of another key."""
    return f"upl_{secrets.token_hex(16)}"
