"""A submit as it was read: who sends it, and the task, with nothing left in headers or body."""

import re
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.core.access import Caller
from penstock.core.events import Dialect
from penstock.core.model import Model
from penstock.core.request import Line, OutputOptions
from penstock.core.sizes import SizeRule
from penstock.errors import InvalidRequest, MalformedRequest
from penstock.intake.given import Given, given_of
from penstock.intake.inline import is_inline
from penstock.intake.models import Catalogue
from penstock.intake.params import complete_params
from penstock.intake.parse import convert
from penstock.intake.requests import ClientRequestId, OutputRequest, TaskRequest
from penstock.pixels.formats import check_options
from penstock.pixels.headers import ImageBounds
from penstock.settings import LimitSettings

MAX_PARAMS_BYTES = 64 * 1024
"""Parameters are kept in the record of the task, in the memory of Redis."""
CANCEL_AFTER_MIN_S, CANCEL_AFTER_MAX_S = 5, 604_800
KEY_PATTERN = r'^("([!#-\[\]-~]|\\["\\]){1,128}"|[!#-~]{1,128})$'
DURATION_PATTERN = r"^(([0-9]{1,4}h)?([0-9]{1,6}m)?[0-9]{1,7}s?|([0-9]{1,4}h)?[0-9]{1,6}m|[0-9]{1,4}h)$"
"""What is documented of the headers `Idempotency-Key` and `Cancel-After`; a little less than what is understood."""

USUAL_OUTPUT = OutputRequest()

_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-~]+")
_DURATION = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s?)?", re.IGNORECASE)


class SubmitCall(Struct, frozen=True, kw_only=True):
    """One submit. `base_url` is where the client reached the server, `dialect` the words of its webhook's events.

    `model` is the version that the task runs on, whatever is made the default later; `params` are those of the task
    with the model's defaults, `given` the members of its input, and `sizes` says how large its result is with these.
    `scorer` is the model that scores its input and its result, None where none does.
    `wait_s` is how long the client waits for the end, None where it does not say. `line` is there for the line of a
    batch, which comes without a request of its own.
    """

    caller: Caller
    task: TaskRequest
    model: Model
    params: dict[str, Any]
    given: tuple[Given, ...]
    base_url: str
    traceparent: str
    dialect: Dialect = "penstock"
    wait_s: float | None = None
    line: Line | None = None
    sizes: SizeRule = SizeRule()
    scorer: Model | None = None

    def bounds(self, limits: LimitSettings) -> ImageBounds:
        """What its images are held to."""
        return ImageBounds.of(limits, takes_truncated=self.params.get("accept_truncated") is True)

    @property
    def inline_image(self) -> str | None:
        """The data: URI of an image that is all the input of the task; None for any other input."""
        if len(self.given) != 1 or self.given[0].member.kind != "image":
            return None
        url = self.given[0].url
        return url if url is not None and is_inline(url) else None


def with_headers(
    task: TaskRequest,
    *,
    idempotency_key: str | None = None,
    cancel_after: str | None = None,
    cache_control: str | None = None,
) -> TaskRequest:
    """Return the task that a client wants, with what the headers of its request say.

    Three headers are another place for members of the body: `Idempotency-Key` for `client_request_id`, `Cancel-After`
    for `finish_within_s`, `Cache-Control: no-cache` for `reuse: false`. Raises MalformedRequest, InvalidRequest.
    """
    if idempotency_key is not None:
        task = replace(task, client_request_id=request_id_of(idempotency_key, task.client_request_id))
    if cache_control is not None and "no-cache" in map(str.strip, cache_control.lower().split(",")):
        task = replace(task, reuse=False)
    return task if cancel_after is None else _with_deadline(task, cancel_after)


def checked_call(
    task: TaskRequest,
    models: Catalogue,
    *,
    caller: Caller,
    base_url: str,
    traceparent: str,
    dialect: Dialect = "penstock",
    wait_s: float | None = None,
    line: Line | None = None,
) -> SubmitCall:
    """Return the call of a task, on the version of its model that is meant now. It checks what the type of a request
    cannot say, the parameters of the model among it.

    Raises InvalidRequest, ModelNotFound, NotReady.
    """
    model = models.find(task.model)
    given = given_of(task.input, model)
    if task.params and (size := len(msgspec.json.encode(task.params))) > MAX_PARAMS_BYTES:
        raise InvalidRequest(f"they have {size} bytes, the limit is {MAX_PARAMS_BYTES}", param="params")
    params = complete_params(task.params, model)
    if task.output != USUAL_OUTPUT:
        _check_output(task.output.options, model)
    sizes = model.sizes.rule_of(params)
    return SubmitCall(
        caller=caller,
        task=task,
        model=model,
        params=params,
        given=given,
        sizes=sizes,
        scorer=_scorer(model, models) if sizes.added_kilopixels else None,
        base_url=base_url,
        traceparent=traceparent,
        dialect=dialect,
        wait_s=wait_s,
        line=line,
    )


def _scorer(model: Model, models: Catalogue) -> Model:
    found = models.references.get(model.sizes.scorer)
    if found is None:
        raise InvalidRequest(f"{model.sizes.scorer}, which scores, is not served here", param="params.post.score")
    return found


def _check_output(options: OutputOptions, model: Model) -> None:
    check_options(options)
    if options.bits > model.max_bits:
        raise InvalidRequest(f"{model.name} gives images of {model.max_bits} bits", param="output.bits")
    if options.color == "keep" and not model.keeps_color:
        raise InvalidRequest(f"{model.name} gives sRGB only", param="output.color")


def request_id_of(header: str, of_body: str | None) -> str:
    """Return the `client_request_id` that `Idempotency-Key` gives; the body may have the same one.

    The IETF's draft of the header has a quoted string; most clients send a bare one.

    Raises MalformedRequest, InvalidRequest.
    """
    quoted = _QUOTED.fullmatch(header)
    if not quoted and not _BARE.fullmatch(header):
        raise MalformedRequest('Idempotency-Key must be one string, such as "order-991"', param="Idempotency-Key")
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else header
    if of_body not in (None, key):
        raise InvalidRequest(
            "Idempotency-Key and client_request_id are both given, and differ", param="client_request_id"
        )
    return str(convert(key, ClientRequestId, inside="Idempotency-Key"))


def _with_deadline(task: TaskRequest, cancel_after: str) -> TaskRequest:
    """Read the header in the form that Replicate has given it: `30`, `90s`, `5m`, `1h30m45s`."""
    match = _DURATION.fullmatch(cancel_after.strip())
    if not match or not any(match.groups()):
        raise MalformedRequest("Cancel-After must be a time such as 90, 90s, 5m or 1h30m", param="Cancel-After")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total_s = hours * 3600 + minutes * 60 + seconds
    if not CANCEL_AFTER_MIN_S <= total_s <= CANCEL_AFTER_MAX_S:
        raise InvalidRequest("Cancel-After must be between 5 s and 7 days", param="Cancel-After")
    if task.finish_within_s not in (None, total_s):
        raise InvalidRequest("Cancel-After and finish_within_s are both given, and differ", param="finish_within_s")
    return replace(task, finish_within_s=float(total_s))
