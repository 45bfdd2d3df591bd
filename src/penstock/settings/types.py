"""The types of settings, the base of their sections, and what makes a key."""

import secrets
from typing import Annotated, Literal

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=0, le=65535)]
"""A port of this machine; what 0 means is said where it is set."""

Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]
NotBelowZero = Annotated[float, Meta(ge=0)]
"""A duration that may be nothing."""

Seconds = Annotated[float, Meta(gt=0)]
"""A duration that cannot be nothing."""

Shown = Literal["auto", "on", "off"]
"""Whether something is served: `auto` leaves it to the command."""

KEY_BYTES = 24  # 192 random bits


def new_key() -> str:
    """A random API key. Its prefix `pen_` lets scanners for leaked secrets recognise it."""
    return f"pen_{secrets.token_urlsafe(KEY_BYTES)}"


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: frozen, keyword-only, and without unknown names."""
