"""Answers about models and their versions, and what operators ask of them."""

from typing import Annotated, Any

from msgspec import Meta

from penstock.api.schemas.tasks import Moment, ResponseBody
from penstock.core.model import MemberKind, Produces, ResidenceState
from penstock.intake.requests import RequestBody


class LimitsView(ResponseBody, frozen=True):
    """Limits of a task: a submit with a larger input is refused, and an attempt that takes longer ends. The formats are
    those of images."""

    input_formats: tuple[str, ...]
    input_bytes: int
    input_megapixels: int
    timeout_s: float


class ResidenceView(ResponseBody, frozen=True):
    """Where a version is on one worker, since when, and why it has failed there. A `cold` or `evicted` version is
    loaded when a task wants it."""

    worker: str
    device: str
    state: ResidenceState
    since: Moment | None
    memory_bytes: int
    reason: str


class VersionView(ResponseBody, frozen=True):
    """A version that is served. `digest` changes whenever the version gives other results for the same input. `state`
    is the best of those on the READY workers, null where none knows the version. `guessed` says of each member of its
    definition that nobody has confirmed why it is a guess. `differs` has the workers by the digest that they have,
    where these are not the same."""

    version: str
    digest: str
    is_default: bool
    published_at: Moment
    state: ResidenceState | None
    workers: tuple[ResidenceView, ...]
    guessed: dict[str, str]
    differs: dict[str, tuple[str, ...]]


class RangeView(ResponseBody, frozen=True):
    """The bounds of a number; both are possible values."""

    minimum: float
    maximum: float


class MemberView(ResponseBody, frozen=True):
    """A member of `input`: an image or another file, of one of the media types if there are any, or JSON that fits the
    schema."""

    kind: MemberKind
    required: bool
    description: str
    media_types: tuple[str, ...]
    schema: dict[str, Any]


class ExampleAnswerView(ResponseBody, frozen=True):
    """The answer to the example of a model: its data, and the names of its files."""

    data: dict[str, Any] | None
    files: tuple[str, ...]


class ExampleView(ResponseBody, frozen=True):
    """A request that the model was tried with, and what it answered. The places of files are made up."""

    request: dict[str, Any]
    answer: ExampleAnswerView


class ModelView(ResponseBody, frozen=True):
    """A model that is served, with its versions, the oldest first. What is said of the model is said of this `version`,
    the default one unless another was asked for: `state` and `guessed` are those in `versions`, `params` is the JSON
    Schema of a task's `params`, `inputs` has the members of its `input`, and `score_range` has the bounds of `score` in
    the data of a model that gives one."""

    name: str
    title: str
    version: str
    versions: tuple[VersionView, ...]
    state: ResidenceState | None
    guessed: dict[str, str]
    licence: str
    source: str
    produces: Produces
    score_range: RangeView | None
    limits: LimitsView
    notes: dict[str, Any]
    params: dict[str, Any]
    inputs: dict[str, MemberView]
    example: ExampleView | None


class FaultyModelView(ResponseBody, frozen=True):
    """A version that a worker has found and cannot serve. It was never published, so that no task can name it."""

    name: str
    version: str | None
    worker: str
    reason: str


class ModelList(ResponseBody, frozen=True):
    """The models that are served, by name, and the versions that no worker can serve."""

    data: tuple[ModelView, ...]
    faulty: tuple[FaultyModelView, ...]


class DefaultVersionRequest(RequestBody, frozen=True):
    """The version that the bare name of a model is to mean from now on."""

    version: Annotated[str, Meta(min_length=1, max_length=64)]
