"""Sessions of the console: a browser has the token of one in place of an API key.

Redis holds the digest of the token and a proof that its key was presented. The proof is keyed with the token itself, so
that who reads Redis can neither use a session nor try keys against what is kept of it.
"""

import hashlib
import hmac
import secrets
from typing import Annotated

from msgspec import Meta, Struct

from penstock.core.access_keys import presented_key

TOKEN_BYTES = 32

Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]


class SessionRecord(Struct, frozen=True, kw_only=True):
    """What Redis holds of a session. `key` is the id of a managed key, or '' for one of the settings; `expires` is in
    seconds since 1970."""

    key: str
    proof: Hex
    expires: float

    def proves(self, token: bytes, digest: bytes) -> bool:
        """Return whether the session with this token was opened with the key that has this SHA-256."""
        return hmac.compare_digest(self.proof, proof_of(token, digest))


def new_token() -> bytes:
    """Return the token of a new session: 256 random bits, as text for a cookie."""
    return secrets.token_urlsafe(TOKEN_BYTES).encode()


def record_of(token: bytes, secret: bytes, *, expires: float) -> SessionRecord:
    """Return the record of a session that is opened with this API key."""
    managed = presented_key(secret)
    return SessionRecord(
        key=managed.id if managed else "", proof=proof_of(token, hashlib.sha256(secret).digest()), expires=expires
    )


def digest_of(token: bytes) -> str:
    """Return the name of a session in Redis."""
    return hashlib.sha256(token).hexdigest()


def proof_of(token: bytes, digest: bytes) -> str:
    """Return what shows that whoever opened the session with this token had the key with this digest."""
    return hmac.digest(token, b"penstock session key " + digest, "sha256").hex()


def act_token(token: bytes) -> str:
    """Return what the pages of a session send with every act (CSRF): another site cannot read it."""
    return hmac.digest(token, b"penstock session act", "sha256")[:16].hex()
