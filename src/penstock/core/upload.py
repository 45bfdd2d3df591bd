"""An upload: bytes that a client brings once, to be named by any number of tasks. Pure.

    open ──▶ PENDING ──arrive──▶ READY ──retire──▶ deleted
                └───────────retire─────────────────▶ deleted

An upload that no task uses is retired after a while, or by its owner; one in use lives as long as its tasks.
"""

import secrets
from enum import StrEnum
from typing import Any

from msgspec import Struct


class UploadState(StrEnum):
    """Whether its bytes are there; a deleted upload has no state, it is not shown."""

    PENDING = "PENDING"
    READY = "READY"


class FileFacts(Struct, frozen=True, kw_only=True):
    """What the owner of an upload says of it when it comes as a file of Replicate's files API: it is listed then."""

    name: str
    metadata: dict[str, Any] = {}


class Upload(Struct, frozen=True, kw_only=True):
    """The record as read; moments in ms since 1970 by the clock of Redis.

    `size` in bytes and `sha256` in hex are what its owner has said, and what arrives is held to; a `sha256` that was
    not said is known when we have taken the bytes ourselves. It `is_checked` when somebody here has read them all, and
    they have it: a bucket may take any. `token` is the digest of what allows to send them to us, while it `is_open`.
    `due` is when it is deleted, None while `tasks` tasks use it. `file` is there for one that is listed as a file.
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
    file: FileFacts | None = None

    @property
    def key(self) -> str:
        """Where the bytes are in the storage."""
        return upload_key(self.tenant, self.id)


def upload_key(tenant: str, upload_id: str) -> str:
    """Where the bytes of an upload are in the storage."""
    return f"uploads/{tenant}/{upload_id}"


def new_upload_id() -> str:
    """`upl_` and 32 hex digits: 128 bits of randomness."""
    return f"upl_{secrets.token_hex(16)}"
