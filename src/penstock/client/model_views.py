"""Answers of the server about models."""

from typing import Any

from msgspec import field

from penstock.client.views import View


class ModelOnWorker(View, frozen=True):
    """Where a version is on one worker: `cold`, `loading`, `ready`, `evicted` or `failed`, with the `reason`. `since`
    is RFC 3339, UTC."""

    worker: str
    device: str
    state: str
    since: str | None = None
    memory_bytes: int = 0
    reason: str = ""


class Version(View, frozen=True):
    """A version that is served; `digest` changes whenever it gives other results for the same input. Its `state` is the
    best one that it has on a worker, None where no worker has it. `guessed` says why a member of its definition is a
    guess that nobody has confirmed. `differs` has the workers by the digest that they have, where these differ."""

    version: str
    digest: str
    is_default: bool = False
    published_at: str | None = None
    state: str | None = None
    workers: tuple[ModelOnWorker, ...] = ()
    guessed: dict[str, str] = field(default_factory=dict)
    differs: dict[str, tuple[str, ...]] = field(default_factory=dict)


class ScoreRange(View, frozen=True):
    """Bounds of the `score` that a model gives."""

    minimum: float
    maximum: float


class Member(View, frozen=True):
    """A member of the input of a model: an `image`, a `file` of one of the `media_types` (any if there are none), or
    `json`, a value that `schema` describes."""

    kind: str = "image"
    required: bool = True
    description: str = ""
    media_types: tuple[str, ...] = ()
    schema: dict[str, Any] = field(default_factory=dict)


class ExampleAnswer(View, frozen=True):
    """The data of an answer, and the names of its files."""

    data: dict[str, Any] | None = None
    files: tuple[str, ...] = ()


class Example(View, frozen=True):
    """A request that a model was tried with, as the body of a submit, and what it answered."""

    request: dict[str, Any]
    answer: ExampleAnswer


class Model(View, frozen=True):
    """A version of a model, the default one unless another was asked for, and the `versions` that there are, the oldest
    first; `params` is the JSON Schema of a task's `params`, and `inputs` has the members of its `input`."""

    name: str
    title: str
    version: str
    produces: str
    versions: tuple[Version, ...] = ()
    state: str | None = None
    guessed: dict[str, str] = field(default_factory=dict)
    score_range: ScoreRange | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    source: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Member] = field(default_factory=dict)
    example: Example | None = None


class FaultyModel(View, frozen=True):
    """A version that a worker has found and cannot serve."""

    name: str
    worker: str
    reason: str
    version: str | None = None


class ModelList(View, frozen=True):
    """The models that are served, and the versions that cannot be."""

    data: tuple[Model, ...]
    faulty: tuple[FaultyModel, ...] = ()
