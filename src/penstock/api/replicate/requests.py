"""Predictions as Replicate's clients ask for them, and the submits of ours that they mean."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from penstock.api.replicate.versions import params_in
from penstock.core.events import EventType
from penstock.core.model import Model
from penstock.errors import InvalidRequest, PenstockError
from penstock.intake.requests import RequestBody

IMAGE = ("image", "image_url")
OUTPUT = {"output_format": "format", "output_quality": "quality"}
FORMAT = {"jpg": "jpeg"}

PLACES = {
    "params": "input",
    "input.image_url": "input.image",
    "input.upload_id": "input.image",
    "output.format": "input.output_format",
    "output.quality": "input.output_quality",
    "webhook.url": "webhook",
}
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
    `output_format` and `output_quality`; all else in it are params of the model, or inputs of Replicate's upscalers
    with the value that the model has anyway. The signed prediction is sent to `webhook` when it starts, progresses and
    has ended, or only at the events of the filter; `webhook_completed` is an older name for a webhook that is sent the
    end only. No model streams: `stream` changes nothing."""

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


def submit_body(model: Model, prediction: PredictionBody) -> bytes:
    """Return the body of a submit of this version; what is wrong with a value is found when that is read.

    Raises InvalidRequest unless there is one image.
    """
    inputs = {name: value for name, value in prediction.input.items() if value is not None}
    places = [name for name in IMAGE if name in inputs]
    if len(places) != 1:
        raise InvalidRequest("give one image: an http(s) URL, a data: URI or a file", param="input.image_url")
    output = {ours: inputs[theirs] for theirs, ours in OUTPUT.items() if theirs in inputs}
    if isinstance(output.get("format"), str):
        output["format"] = FORMAT.get(output["format"], output["format"])
    params = params_in(model, {name: value for name, value in inputs.items() if name not in (*IMAGE, *OUTPUT)})
    body = {"model": model.id, "input": _source(inputs[places[0]]), "params": params, "output": output}
    return msgspec.json.encode(body | {"webhook": _webhook(prediction)})


def _source(image: Any) -> dict[str, Any]:
    """Take the URL of a file for the upload that has its bytes."""
    file = _FILE.fullmatch(image) if isinstance(image, str) else None
    return {"upload_id": file[1].lower()} if file else {"image_url": image}


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
