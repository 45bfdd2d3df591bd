"""Cursors of lists: the moment where a page ended, signed for one tenant."""

import base64
import hmac
from collections.abc import Callable

from penstock.errors import InvalidRequest

SIGNATURE_BYTES = 8
"""A short signature is enough: a cursor gives access to nothing that its caller could not list anyway."""


class Cursors:
    """Writes and reads cursors. All servers of one installation accept them; `secret` returns what they share, a random
    one that says nothing about keys."""

    def __init__(self, secret: Callable[[], bytes]) -> None:
        self._secret = secret

    def write(self, before_us: int, tenant: str) -> str:
        """Return the cursor for what this tenant has created before this moment, in µs since 1970."""
        moment = before_us.to_bytes(8)
        return _encoded(moment + self._signature(moment, tenant))

    def read(self, cursor: str, tenant: str) -> int:
        """Return the moment in µs since 1970. Raises InvalidRequest for a cursor that `write` has not made for this
        tenant."""
        raw = _decoded(cursor)
        moment, signature = raw[:8], raw[8:]
        if not hmac.compare_digest(signature, self._signature(moment, tenant)):
            raise InvalidRequest("this is not a cursor of this server", param="cursor")
        return int.from_bytes(moment)

    def _signature(self, moment: bytes, tenant: str) -> bytes:
        return hmac.digest(self._secret(), b"penstock cursor " + tenant.encode() + moment, "sha256")[:SIGNATURE_BYTES]


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(cursor: str) -> bytes:
    """The bytes of a cursor; none for a text that `_encoded` does not make."""
    try:
        raw = base64.urlsafe_b64decode(f"{cursor}==")
    except ValueError:
        return b""
    return raw if _encoded(raw) == cursor else b""  # decoding skips characters and bits that mean nothing
