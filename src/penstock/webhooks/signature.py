"""The three headers of a signed message (Standard Webhooks 1.0, symmetric signatures `v1`)."""

from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook


class Signer:
    """Signs with every secret that is in force, so that a receiver may know any one of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Each `whsec_` and the base64 of 24 to 64 bytes."""
        self._keys = [Webhook(secret) for secret in secrets]

    def headers(self, message_id: str, body: str, at: datetime | None = None) -> dict[str, str]:
        """Of one attempt, made now or at the given moment of UTC."""
        at = at or datetime.now(UTC)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(key.sign(message_id, at, body) for key in self._keys),
        }
