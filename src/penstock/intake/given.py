"""The members of an input as a client gives them, in the words of the model; nothing of them is looked at yet."""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct

from penstock.core.model import Member, Model
from penstock.errors import InvalidRequest
from penstock.intake.parse import SHOWN, convert
from penstock.intake.requests import IMAGE_URL, UPLOAD_ID, InputRequest, UploadReference

SHORT = ("image_url", "upload_id")
"""Members of every input with one image: the image of the model, whatever its name is."""


class Given(Struct, frozen=True, kw_only=True):
    """One member of an input: a file at a `url`, which may be a data: URI, or in an upload; or the `value` of JSON.
    Errors call it `param`."""

    name: str
    member: Member
    param: str
    url: str | None = None
    upload_id: str | None = None
    value: Any = UNSET

    def at(self, upload: str) -> dict[str, Any]:
        """Return this member as a client sends it, with that upload."""
        return {"upload_id": upload} if self.param == UPLOAD_ID else {self.name: {"upload_id": upload}}


def given_of(sent: Mapping[str, Any], model: Model) -> tuple[Given, ...]:
    """Return the members that a client has sent, in the order of the model.

    The one image of a model may also be sent as `image_url`, or as `upload_id`. Raises InvalidRequest, which names the
    member at fault: one that is missing, not known, given twice, or of another type.
    """
    inputs = model.inputs
    if len(inputs) == 1 and len(sent) == 1 and (url := sent.get("image_url")) and isinstance(url, str):
        ((name, member),) = inputs.items()  # what nearly all send
        if member.kind == "image":
            return (Given(name=name, member=member, param=IMAGE_URL, url=url),)
    sole = model.sole_image
    if (
        sole is not None
        and sole not in sent
        and (not sent.keys().isdisjoint(SHORT) or (len(inputs) == 1 and (sent or inputs[sole].required)))
    ):
        image, sent = _short(sent, sole, inputs)
        return (image,) if len(inputs) == 1 else _named(sent, inputs, image)
    return _named(sent, inputs)


def _short(sent: Mapping[str, Any], sole: str, inputs: Mapping[str, Member]) -> tuple[Given, Mapping[str, Any]]:
    """The image of the two short members, and the members that are left."""
    own = sent if len(inputs) == 1 else {name: value for name, value in sent.items() if name in SHORT}
    short: InputRequest = convert(own, InputRequest, inside="input")
    if UNSET not in (short.image_url, short.upload_id):
        raise InvalidRequest("either image_url or upload_id, not both", param=UPLOAD_ID)
    left = {name: value for name, value in sent.items() if name not in SHORT}
    if short.upload_id is not UNSET:
        return Given(name=sole, member=inputs[sole], param=UPLOAD_ID, upload_id=short.upload_id), left
    if short.image_url is UNSET:
        raise InvalidRequest("either image_url or upload_id is needed", param=IMAGE_URL)
    return Given(name=sole, member=inputs[sole], param=IMAGE_URL, url=short.image_url), left


def _named(sent: Mapping[str, Any], inputs: Mapping[str, Member], image: Given | None = None) -> tuple[Given, ...]:
    for name in sent:
        if name not in inputs:
            raise _unknown(name, inputs)
    given = {} if image is None else {image.name: image}
    given |= {name: _member(name, value, inputs[name]) for name, value in sent.items()}
    for name, member in inputs.items():
        if member.required and name not in given:
            raise InvalidRequest(f"Object missing required field `{name}`", param=f"input.{name}")
    return tuple(given[name] for name in inputs if name in given)


def _unknown(name: str, inputs: Mapping[str, Member]) -> InvalidRequest:
    known = ", ".join(inputs)
    text = f"Object contains unknown field `{name[:SHOWN]}`; known are: {known}"
    if name in SHORT:
        text = f"it stands for the only image of a model, and only once; known are: {known}"
    return InvalidRequest(text, param=f"input.{name}"[:SHOWN])


def _member(name: str, value: Any, member: Member) -> Given:
    param = f"input.{name}"
    if member.kind == "json":
        return Given(name=name, member=member, param=param, value=value)
    if isinstance(value, dict):
        reference: UploadReference = convert(value, UploadReference, inside=param)
        return Given(name=name, member=member, param=param, upload_id=reference.upload_id)
    if not isinstance(value, str) or not value:
        raise InvalidRequest('a URL, a data: URI or {"upload_id": "upl_..."} is needed', param=param)
    return Given(name=name, member=member, param=param, url=value)
