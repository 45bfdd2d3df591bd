"""What a model says about itself: the form in which workers publish it and the API reads it. Pure.

The API imports no model. It checks submits against this description, which a worker publishes to Redis.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct

from penstock.core.request import Bits
from penstock.core.sizes import SizeRule as SizeRule
from penstock.core.sizes import Sizes as Sizes

MemberKind = Literal["image", "file", "json"]

Produces = Literal["image", "data", "any"]
"""What a model returns: the file of an image, perhaps with data; data without a file; or either of them."""

SOLE_IMAGE = "image"
"""The name of the one member of a model that declares no inputs. Clients may also send it as `image_url`, or as
`upload_id` beside it, as long as it is the model's only image."""


class Member(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A member of the input of a model.

    An `image` is decoded within the operator's limits. A `file` has one of the `media_types`, such as `audio/wav` or
    `audio/*`; any where there are none. `json` is checked against `schema`, a JSON Schema.
    """

    kind: MemberKind = "image"
    required: bool = True
    description: str = ""
    media_types: tuple[str, ...] = ()
    schema: dict[str, Any] = {}


SMALL_PHOTO = (
    "data:image/webp;base64,"
    "UklGRqIAAABXRUJQVlA4IJYAAACwBACdASoYABAAPtFUo0uoJKMhsAgBABoJZgCdMoRwAdDcgYKsegSHlEI0TBMAAM"
    "4xTlVGcQxyd5Whz5hHvNxrkwMS8EEkkQ4PhV8M/smtXWqMyePgVM0HcynUw+ACahv28eY9hm4H/L36eDMq/6ST2C9t"
    "yvBzWi7velVoKBZf8AFQbMjsEoXcC3DXog21ka6hL+tAAAA="
)
"""A photo of 24 x 16 pixels, so small that it can stand in examples."""


class Example(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An example for the catalogue: the `input` and `params` of a request, and the data and files of its answer."""

    input: dict[str, Any] = {}
    params: dict[str, Any] = {}
    data: dict[str, Any] | None = None
    files: tuple[str, ...] = ()


class Model(Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """One version of a model, as a worker publishes it.

    `digest` changes whenever the model may give other results for the same input. A model of the repository is
    `versioned`: several versions are served side by side, each with queues of its own. `guessed` says why a member of
    its definition is a guess that nobody has confirmed. `params` is the JSON Schema of the parameters. The samples of
    its images have up to `max_bits`, and the colours of the input where it `keeps_color` on request.
    """

    name: str
    version: str
    digest: str
    title: str = ""
    licence: str = ""
    source: str = ""
    produces: Produces = "any"
    score_range: tuple[float, float] | None = None
    max_bits: Bits = 8
    keeps_color: bool = False
    notes: dict[str, Any] = {}
    params: dict[str, Any] = {}
    inputs: dict[str, Member] = {}
    sizes: Sizes = Sizes()
    guessed: dict[str, str] = {}
    example: Example | None = None
    versioned: bool = False

    @cached_property
    def id(self) -> str:
        """The name of its queues, in records, metrics and lists of workers: `name`, or `name@version` of a model with
        versions."""
        return f"{self.name}@{self.version}" if self.versioned else self.name

    @property
    def sole_image(self) -> str | None:
        """The name of the one image among its members; None where it has none, or several."""
        return sole_image_of(self.inputs)


def sole_image_of(members: Mapping[str, Member]) -> str | None:
    """The name of the one image among these members; None where there is none, or several."""
    images = [name for name, member in members.items() if member.kind == "image"]
    return images[0] if len(images) == 1 else None


ResidenceState = Literal["cold", "loading", "ready", "evicted", "failed"]


class Residence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a model is on one worker: `cold` was never asked for, `evicted` made room for others or was unloaded,
    `failed` does not load or fails its check, with the reason. `since` is a moment in ms."""

    state: ResidenceState
    since: int = 0
    digest: str = ""
    memory_bytes: int = 0
    reason: str = ""


def split_id(reference: str) -> tuple[str, str | None]:
    """Split `name@version` into both; the version is None where it is not given."""
    name, at, version = reference.partition("@")
    return name, version if at else None
