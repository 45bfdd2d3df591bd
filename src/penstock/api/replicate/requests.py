"""Predictions as Replicate's clients ask for them, and the submits of ours that they mean."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, cast

from msgspec import Meta

from penstock.api.replicate.versions import params_in
from penstock.core.events import EventType
from penstock.core.model import Member, Model
from penstock.errors import InvalidRequest, PenstockError
from penstock.intake.parse import convert, leave_out_nulls
from penstock.intake.requests import OutputRequest, RequestBody, TaskRequest

IMAGE = ("image", "image_url", "img")
"""What predictions call the one image of a model, beside its own name."""
OUTPUT = {f"output_{member}": member for member in OutputRequest.__struct_fields__}
"""Input of a prediction -> member of our `output`."""
FORMAT = {"jpg": "jpeg"}

PLACES = {
    "params": "input",
    "input.image_url": "input.image",
    "input.upload_id": "input.image",
    "webhook.url": "webhook",
} | {f"output.{ours}": f"input.{theirs}" for theirs, ours in OUTPUT.items()}
"""Member of our submit -> its place in a prediction, where its own members stand too."""

_FILE = re.compile(r"https?://[^?#]*/replicate/v1/files/(upl_[0-9a-f]{32})", re.IGNORECASE)

ENDS: tuple[EventType, ...] = ("succeeded", "failed", "canceled", "expired")
EVENTS_OF: dict[str, tuple[EventType, ...]] = {
    "start": ("progress",),
    "output": ("succeeded",),
    "logs": (),
    "completed": ENDS,
}
"""Replicate's word -> our events. Nothing here writes logs, and the only output comes with the end."""

HookEvent = Literal["start", "output", "logs", "completed"]


class PredictionBody(RequestBody, frozen=True, kw_only=True):
    """The members that all predictions share. `input` has the image (http(s) URL, data: URI, or the URL of a file),
    or whatever members the model takes, and `output_format`, `output_quality` and all other members of our `output`
    with `output_` before them; all else in it are params of the model, or inputs of Replicate's upscalers with the
    value that the model has anyway. The signed prediction is sent to `webhook` when it starts, progresses and has
    ended, or only at the events of the filter; `webhook_completed` is an older name for a webhook that is sent the end
    only. No model streams: `stream` changes nothing."""

    input: dict[str, Any]
    webhook: Annotated[str, Meta(min_length=1, extra_json_schema={"format": "uri"})] | None = None
    webhook_completed: Annotated[str, Meta(min_length=1, extra_json_schema={"format": "uri"})] | None = None
    webhook_events_filter: tuple[HookEvent, ...] | None = None
    stream: bool | None = None


class PredictionRequest(PredictionBody, frozen=True, kw_only=True):
    """A prediction to run. `version` is the id of a model's version, or the name of a model: alone, or as owner/name or
    owner/name:version, of which owner and version are ignored. An unknown id stands for the model that makes images,
    if there is only one."""

    version: Annotated[str, Meta(min_length=1, max_length=256)]


class ModelPredictionRequest(PredictionBody, frozen=True):
    """A prediction to run with the model, or the deployment, that the path names."""


def submit_of(model: Model, prediction: PredictionBody) -> TaskRequest:
    """Return the submit of this version that a prediction means.

    Raises InvalidRequest, also unless there is one image, where the model takes one.
    """
    inputs = {name: value for name, value in prediction.input.items() if value is not None}
    words = _words_for_image(model)
    images = [name for name in inputs if name in words]
    if words and len(images) != 1 and (images or model.inputs[str(model.sole_image)].required):
        raise InvalidRequest("give one image: an http(s) URL, a data: URI or a file", param="input.image_url")
    members = {
        name: _member(inputs.pop(name), model.inputs[name]) for name in model.inputs if name in inputs.keys() - words
    }
    for name in images:
        members |= _image(inputs.pop(name))
    output = {ours: inputs.pop(theirs) for theirs, ours in OUTPUT.items() if theirs in inputs}
    if isinstance(output.get("format"), str):
        output["format"] = FORMAT.get(output["format"], output["format"])
    task = {"model": model.id, "input": members, "params": params_in(model, inputs), "output": output}
    return cast(TaskRequest, convert(leave_out_nulls(task | {"webhook": _webhook(prediction)}), TaskRequest))


def _words_for_image(model: Model) -> set[str]:
    """What a client may call the only image of a model; nothing where it takes none, or several."""
    return set() if model.sole_image is None else {*IMAGE, model.sole_image}


def _image(image: Any) -> dict[str, Any]:
    upload = _upload_of(image)
    return {"image_url": image} if upload is None else upload


def _member(value: Any, member: Member) -> Any:
    return value if member.kind == "json" else _upload_of(value) or value


def _upload_of(value: Any) -> dict[str, Any] | None:
    """Take the URL of a file for the upload that has its bytes."""
    file = _FILE.fullmatch(value) if isinstance(value, str) else None
    return {"upload_id": file[1].lower()} if file else None


def _webhook(prediction: PredictionBody) -> dict[str, Any] | None:
    if prediction.webhook is None and prediction.webhook_completed is not None:
        return {"url": prediction.webhook_completed, "events": ENDS}
    words = EVENTS_OF if prediction.webhook_events_filter is None else prediction.webhook_events_filter
    events = list(dict.fromkeys(event for word in words for event in EVENTS_OF[word]))
    return {"url": prediction.webhook, "events": events} if prediction.webhook is not None and events else None


@contextmanager
def in_their_words() -> Iterator[None]:
    """Let errors inside name the member of the prediction, also in their text: the Python client shows nothing else."""
    try:
        yield
    except PenstockError as error:
        if error.param is not None:
            error.param = _place(error.param)
            error.detail = f"{error.param}: {error.detail}"
        raise


def _place(param: str) -> str:
    for ours, theirs in PLACES.items():
        if param == ours or param.startswith(f"{ours}."):
            return theirs + param.removeprefix(ours)
    return param
