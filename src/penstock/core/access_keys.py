"""Managed keys: how the text of one is made and checked, and what is kept of it."""

import hashlib
import re
import secrets
import string
import zlib
from typing import Annotated

from msgspec import Meta, Struct

from penstock.core.access import Scope

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
"""The digits of base62, in the order in which GitHub uses them for the checksums of its tokens."""

ID_CHARS = 12
SECRET_CHARS = 32
"""190 random bits: nobody finds a secret by trying, so that a fast digest of it is enough."""
CHECKSUM_CHARS = 6

_WORD = "[0-9A-Za-z]"
PATTERN = f"pk_{_WORD}{{{ID_CHARS}}}_{_WORD}{{{SECRET_CHARS + CHECKSUM_CHARS}}}"
"""What a scanner for leaked secrets looks for: `pk_<id>_<secret><checksum>`."""
_FORM = re.compile(f"(pk_({_WORD}{{{ID_CHARS}}})_{_WORD}{{{SECRET_CHARS}}})({_WORD}{{{CHECKSUM_CHARS}}})".encode())


LATEST_MS = 253402300799999
"""The end of the year 9999, after which datetime knows no moment."""

Moment = Annotated[int, Meta(ge=0, le=LATEST_MS)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]


class AccessKey(Struct, frozen=True, kw_only=True):
    """What Redis holds of a managed key: nothing from which the key could be made again.

    `digest` is the SHA-256 of its text, in hex. `name` is the caller that it acts as, which it shares with the keys
    that replace it. Moments are in ms since 1970; the key works until `expires` or `revoked`, whichever comes first.
    """

    id: str
    digest: Digest
    tenant: str
    name: str
    scopes: tuple[Scope, ...]
    created: Moment
    created_by: str
    expires: Moment | None = None
    revoked: Moment | None = None
    replaced_by: str | None = None

    @property
    def until(self) -> float:
        """The moment from which the key no longer works; infinite for one that never ends."""
        return min((at for at in (self.expires, self.revoked) if at is not None), default=float("inf"))

    def successor(self, new: "PresentedKey", *, by: str, at: int) -> "AccessKey":
        """Return the key that takes the place of this one: it may do as much, and lasts as long from now on."""
        expires = None if self.expires is None else at + self.expires - self.created
        return AccessKey(
            id=new.id,
            digest=new.digest.hex(),
            tenant=self.tenant,
            name=self.name,
            scopes=self.scopes,
            created=at,
            created_by=by,
            expires=expires,
        )


class PresentedKey(Struct, frozen=True):
    """The id and the SHA-256 of a text that has the form and the checksum of a managed key."""

    id: str
    digest: bytes


def new_access_key() -> tuple[str, PresentedKey]:
    """Return the text of a new managed key, and what is kept of it."""
    key_id = _random(ID_CHARS)
    text = f"pk_{key_id}_{_random(SECRET_CHARS)}"
    text += checksum(text.encode())
    return text, PresentedKey(key_id, _digest(text.encode()))


def presented_key(text: bytes) -> PresentedKey | None:
    """Return the parts of a key that a client has sent; None for a text that cannot be a managed key."""
    found = _FORM.fullmatch(text)
    if found is None or checksum(found[1]).encode() != found[3]:
        return None
    return PresentedKey(found[2].decode(), _digest(text))


def checksum(text: bytes) -> str:
    """Return the CRC-32 of the text in base62, as GitHub appends it to its tokens."""
    rest, digits = zlib.crc32(text), ""
    for _ in range(CHECKSUM_CHARS):
        rest, digit = divmod(rest, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _random(chars: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(chars))
