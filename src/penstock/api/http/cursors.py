"""Where a list goes on: a moment, signed, so that only what this server has given out is taken."""

import base64
import binascii
import hashlib
import hmac

from penstock.errors import InvalidRequest

SIGNATURE_BYTES = 8
"""A cursor opens nothing that its caller could not list anyway; so much keeps one from being made up by mistake."""

_URL_SAFE = str.maketrans("-_", "+/")


class Cursors:
    """Of all servers with the same API keys; a change of the keys ends those that are out."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.sha256(b"penstock cursor" + secret).digest()

    def write(self, before_us: int) -> str:
        """For the tasks created before this moment."""
        moment = before_us.to_bytes(8)
        return base64.urlsafe_b64encode(moment + self._signature(moment)).rstrip(b"=").decode()

    def read(self, cursor: str) -> int:
        """The moment in µs. Raises InvalidRequest."""
        try:
            raw = binascii.a2b_base64(cursor.translate(_URL_SAFE) + "==", strict_mode=True)
        except ValueError:
            raw = b""
        moment, signature = raw[:8], raw[8:]
        if not hmac.compare_digest(signature, self._signature(moment)):
            raise InvalidRequest("this is not a cursor of this server", param="cursor")
        return int.from_bytes(moment)

    def _signature(self, moment: bytes) -> bytes:
        return hmac.digest(self._secret, moment, "sha256")[:SIGNATURE_BYTES]
