"""Channels: with which commands Redis carries messages.

What is published with PUBLISH goes to every node of a cluster, whoever listens there. Where the keys of an installation
are on several nodes, each of them would so hear of all the work of the others: SPUBLISH (Redis 7) stays on the node of
the channel's hash tag, which is that of the keys.
"""

from typing import NamedTuple


class Channels(NamedTuple):
    """The commands, and what the messages are called that come in answer to them."""

    publish: str
    subscribe: str
    unsubscribe: str
    message: str

    @property
    def begun(self) -> bytes:
        """The kind of the message that says: from here on nothing is missed."""
        return self.subscribe.lower().encode()

    @property
    def ended(self) -> bytes:
        """The kind of the message that says: nothing more will come."""
        return self.unsubscribe.lower().encode()


OF_ALL_NODES = Channels("PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE", "message")
OF_ONE_NODE = Channels("SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE", "smessage")
