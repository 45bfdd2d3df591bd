"""The headers that identify and sign a message (Standard Webhooks 1.0, symmetric signatures `v1`)."""

from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook

from penstock.core.events import Event


class Signer:
    """Signs with every secret in force, so that a receiver needs to know only one of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Each secret is `whsec_` and the base64 of 24 to 64 bytes."""
        self._keys = [Webhook(secret) for secret in secrets]

    def headers(self, message_id: str, body: str, at: datetime | None = None) -> dict[str, str]:
        """The three headers of one attempt, made now or at the moment `at` (UTC)."""
        at = at or datetime.now(UTC)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(key.sign(message_id, at, body) for key in self._keys),
        }


def message_id(subject: str, event: Event) -> str:
    """The id of a message, the same for every delivery of one event: a receiver recognises repetitions by it."""
    return f"msg_{subject}_{event.type}_{event.seq}"
