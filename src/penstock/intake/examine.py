"""What can be checked of a task before a worker has it: its webhook, and its input as far as it is here."""

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.core.events import Webhook
from penstock.errors import InputTooLarge
from penstock.intake.call import SubmitCall
from penstock.intake.deps import Deps
from penstock.intake.found import Blaming, Found, find, of_data
from penstock.intake.inline import MAX_ON_LOOP, is_long
from penstock.intake.requests import LinksRequest, TaskRequest
from penstock.intake.reuse_digest import reuse_digest
from penstock.intake.uploads import check_digest
from penstock.intake.webhook import webhook_of
from penstock.pixels.formats import check_holds, check_result_size, for_source
from penstock.pixels.headers import ImageHeader
from penstock.settings import LimitSettings, Settings

UNSEEN = 0
"""Kilopixels of an image that nobody has seen: it counts as a mean task of its model."""


class Examined(Struct, frozen=True, kw_only=True):
    """What is known of a task whose checks have passed.

    `found` are the members of its input. `cost` is what the device will compute, in kilopixels; `size` is the width and
    height of the first image in pixels, None while nobody has seen it. `fingerprint` tells two bodies with one
    `client_request_id` apart; equal tasks share `reuse_digest`.
    """

    cost: int
    fingerprint: str = ""
    found: tuple[Found, ...] = ()
    size: tuple[int, int] | None = None
    reuse_digest: str | None = None
    webhook: Webhook | None = None


async def examine(call: SubmitCall, deps: Deps) -> Examined:
    """Check the webhook, and the input as far as it is here; nothing is fetched.

    Raises WebhooksDisabled, and what `find` raises.
    """
    webhook = webhook_of(call.task.webhook, deps, base_url=call.base_url, dialect=call.dialect)
    image = call.inline_image
    if image is None:
        return await _examine_members(call, deps, webhook)
    if not is_long(image):
        return _examine_inline(call, deps.settings, webhook)
    # The base64 and the digest of megabytes would hold up every other request.
    return await asyncio.to_thread(_examine_inline, call, deps.settings, webhook)


def _examine_inline(call: SubmitCall, settings: Settings, webhook: Webhook | None) -> Examined:
    return _weighed(call, (look_at(call, settings),), settings, webhook)


def _weighed(call: SubmitCall, found: tuple[Found, ...], settings: Settings, webhook: Webhook | None) -> Examined:
    return weigh(call, found, settings, webhook=webhook, fingerprint=_fingerprint(call.task, found))


async def _examine_members(call: SubmitCall, deps: Deps, webhook: Webhook | None) -> Examined:
    found = tuple([await find(one, call, deps) for one in call.given])
    if len(found) == 1 and found[0].url is not None:  # nothing of it is here
        return Examined(cost=UNSEEN, fingerprint=_fingerprint(call.task, found), found=found, webhook=webhook)
    held = _bytes_held(found, deps.settings.limits)
    if (first := _first_image(found)) is not None:
        _check_result_fits(call, first, deps.settings.limits)
    weighed = partial(_weighed, call, found, deps.settings, webhook)
    examined = weighed() if held <= MAX_ON_LOOP else await asyncio.to_thread(weighed)
    if examined.reuse_digest is not None and call.task.reuse:
        await _check_uploads(examined, deps)
    return examined


def _bytes_held(found: Sequence[Found], limits: LimitSettings) -> int:
    """The bytes that are here. Raises InputTooLarge when the files are too large together."""
    held = total = 0
    for one in found:
        if one.data is not None:
            held += len(one.data)
        if one.url is None and (total := total + one.size) > limits.bytes_in_all:
            what = f"the files have more than {limits.bytes_in_all} bytes in all"
            raise InputTooLarge(what, param=one.given.param)
    return held


async def _check_uploads(examined: Examined, deps: Deps) -> None:
    """Read the bytes of uploads that nobody has read, or they would get the result of others."""
    unread = [one for one in examined.found if one.upload is not None and not one.upload.is_checked]
    if unread and (await deps.store.tasks.have_results([str(examined.reuse_digest)]))[0]:
        for one in unread:
            assert one.upload is not None  # noqa: S101  as they were chosen
            with Blaming(one.given.param):
                await check_digest(one.upload, deps)


def look_at(call: SubmitCall, settings: Settings, header: ImageHeader | None = None) -> Found:
    """Look at the inline image that is all the input of a task. A header that is known from a first look is only
    compared with the limits, which may have changed since.

    Raises InvalidRequest, InputTooLarge, UnsupportedImageFormat, ImageTooLarge, ImageAnimated,
    ImageDecodeFailed.
    """
    found = of_data(call.given[0], call, settings.limits, header)
    _check_result_fits(call, found, settings.limits)
    return found


def weigh(
    call: SubmitCall,
    found: tuple[Found, ...],
    settings: Settings,
    *,
    webhook: Webhook | None = None,
    fingerprint: str = "",
) -> Examined:
    """Return what is known of a task whose members have passed their checks.

    Only a task that may have a `client_request_id` needs a fingerprint.
    """
    first = _first_image(found)
    header = None if first is None else first.header
    return Examined(
        cost=UNSEEN if header is None else _cost(call, header),
        fingerprint=fingerprint,
        found=found,
        size=None if header is None else (header.width, header.height),
        reuse_digest=reuse_digest(call, found) if settings.queue.reuse else None,
        webhook=webhook,
    )


def _cost(call: SubmitCall, header: ImageHeader) -> int:
    return call.sizes.kilopixels_of(header.width, header.height, has_alpha=header.has_alpha)


def output_size(call: SubmitCall, width: int, height: int) -> tuple[int, int] | None:
    """Return width and height of the result for an image of this size, None where no image comes or nobody knows."""
    return call.sizes.result_of(width, height)


def _first_image(found: Sequence[Found]) -> Found | None:
    for one in found:
        if one.header is not None:
            return one
    return None


def _check_result_fits(call: SubmitCall, found: Found, limits: LimitSettings) -> None:
    header = found.header
    if header is not None and (size := output_size(call, header.width, header.height)):
        with Blaming(found.given.param):
            check_result_size(limits, *size, param=call.sizes.target.param if call.sizes.target else None)
            check_holds(for_source(call.task.output.options, header.format), *size)


def _fingerprint(task: TaskRequest, found: Sequence[Found]) -> str:
    """Digest everything but what says nothing about the task: `links`, and `reuse`, which a proxy may add as a header.
    Without a `client_request_id` nothing is ever compared with it, and it is empty.

    The bytes of an upload, if they are known, stand for its id, so that a client which sends them anew gets the
    same task.
    """
    if task.client_request_id is None:
        return ""
    same = replace(task, reuse=True, links=LinksRequest())
    for one in found:
        if one.upload is not None and one.upload.sha256 is not None:
            same = replace(same, input=same.input | one.given.at(f"sha256:{one.upload.sha256}"))
    return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).hexdigest()
