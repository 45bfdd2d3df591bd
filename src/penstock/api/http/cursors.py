"""Cursors of lists: the moment where a page ended, signed, so that a server accepts only cursors of its own."""

import base64
import binascii
import hashlib
import hmac

from penstock.errors import InvalidRequest

SIGNATURE_BYTES = 8
"""A short signature is enough: a cursor gives access to nothing that its caller could not list anyway."""

_URL_SAFE = str.maketrans("-_", "+/")


class Cursors:
    """Writes and reads cursors. Servers with the same API keys accept each other's; a change of the keys ends all."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.sha256(b"penstock cursor" + secret).digest()

    def write(self, before_us: int) -> str:
        """Return the cursor for what was created before this moment, in µs since 1970."""
        moment = before_us.to_bytes(8)
        return base64.urlsafe_b64encode(moment + self._signature(moment)).rstrip(b"=").decode()

    def read(self, cursor: str) -> int:
        """Return the moment in µs since 1970. Raises InvalidRequest for a cursor that `write` has not made."""
        try:
            # Not base64.urlsafe_b64decode, which skips characters that are not of its alphabet.
            raw = binascii.a2b_base64(cursor.translate(_URL_SAFE) + "==", strict_mode=True)
        except ValueError:
            raw = b""
        moment, signature = raw[:8], raw[8:]
        if not hmac.compare_digest(signature, self._signature(moment)):
            raise InvalidRequest("this is not a cursor of this server", param="cursor")
        return int.from_bytes(moment)

    def _signature(self, moment: bytes) -> bytes:
        return hmac.digest(self._secret, moment, "sha256")[:SIGNATURE_BYTES]
