"""The uploads that this user has sent by `penstock uploads put`: a server does not list them."""

from contextlib import suppress

import msgspec
from msgspec import Struct

from penstock.cli.whole_ids import beginning_of, only
from penstock.settings import state_home

UPLOAD = "upl_"

KEPT = 1000
"""Uploads that are remembered; the server deletes those that no task uses after a day."""


class Sent(Struct, frozen=True):
    """An upload, and the address of the server that has it."""

    url: str
    upload_id: str


def remember(url: str, upload_id: str) -> None:
    """Keeps an upload in the state directory of the user; nothing happens where that cannot be written."""
    with suppress(OSError, RuntimeError):
        path = state_home() / "uploads.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:  # others may append to it at the same time
            file.write(msgspec.json.encode(Sent(url, upload_id)) + b"\n")
            file.seek(0)
            lines = file.read().splitlines()
        if len(lines) > 2 * KEPT:
            path.write_bytes(b"\n".join(lines[-KEPT:]) + b"\n")


def sent_to(url: str) -> list[str]:
    """Returns the uploads that are remembered of this server, the latest first."""
    found: list[str] = []
    with suppress(OSError, RuntimeError):
        for line in (state_home() / "uploads.jsonl").read_bytes().splitlines():
            with suppress(msgspec.MsgspecError):
                sent = msgspec.json.decode(line, type=Sent)
                found += [sent.upload_id] if sent.url == url else []
    return found[::-1]


def whole_upload_id(url: str, given: str) -> str:
    """Returns the id of the upload that is meant. Raises click.ClickException for the beginning of none that was sent
    from here, or of several."""
    beginning = beginning_of(given, UPLOAD)
    if beginning is None:
        return given
    found = [one for one in sent_to(url) if one.startswith(beginning)]
    return only(
        found, beginning, "upload that was sent from here", "`penstock uploads ls` lists them, or give all of it"
    )
