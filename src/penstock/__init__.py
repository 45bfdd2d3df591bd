"""Penstock: a self-hosted server for long-running GPU inference jobs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.client import AsyncClient, Client, PenstockApiError

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "PenstockApiError", "__version__"]


def __getattr__(name: str) -> Any:
    # The client is imported at its first use, since a server process has no use for it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from penstock import client

    return getattr(client, name)
