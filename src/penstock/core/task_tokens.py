"""Task tokens: signed capabilities, each of which lets whoever has it read one task until it expires."""

import base64
import hashlib
import hmac
import struct
from collections.abc import Mapping

from msgspec import Struct

PREFIX = "tt_"

SIGNATURE_BYTES = 16
"""128 bits of HMAC-SHA-256."""

_HEAD = struct.Struct(">QI")
"""The second since 1970 in which the token expires, and its generation. The name of the tenant follows."""


class TaskTokens(Struct, frozen=True):
    """Writes and reads the tokens of one installation, under its `secret`. A tenant's tokens are those of its present
    generation, 0 where `generations` does not name it: another number ends all earlier ones."""

    secret: bytes
    generations: Mapping[str, int]

    def write(self, task_id: str, tenant: str, *, expires_s: int) -> str:
        """Return the token with which a task of this tenant can be read until this second since 1970."""
        claims = _HEAD.pack(expires_s, self.generations.get(tenant, 0)) + tenant.encode()
        return _encoded(self._signature(task_id, claims) + claims)

    def tenant_of(self, token: str, task_id: str, *, now_s: float) -> str | None:
        """Return the tenant whose task of this id the token opens; None for any other token."""
        raw = _decoded(token)
        signature, claims = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(task_id, claims)):
            return None
        expires_s, generation = _HEAD.unpack_from(claims)
        tenant = claims[_HEAD.size :].decode()
        return tenant if now_s < expires_s and generation == self.generations.get(tenant, 0) else None

    def _signature(self, task_id: str, claims: bytes) -> bytes:
        # A digest stands for the id, so that no other id and claims make the same message, whatever a client sends.
        subject = hashlib.sha256(task_id.encode(errors="replace")).digest()
        return hmac.digest(self.secret, b"penstock task token" + subject + claims, "sha256")[:SIGNATURE_BYTES]


def _encoded(raw: bytes) -> str:
    return PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(token: str) -> bytes:
    """The bytes of a token; none for a text that `_encoded` does not make."""
    text = token.removeprefix(PREFIX)
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
    return raw if _encoded(raw) == token else b""  # decoding skips characters and bits that mean nothing
