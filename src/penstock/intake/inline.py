"""Images and files inside of a request: `data:` URIs (RFC 2397) in every form that clients write.

The bytes themselves say what they are; the media type counts where they do not. Base64 is read as browsers read it
(WHATWG Infra, "forgiving-base64 decode"), and in the URL-safe alphabet and percent-encoded too. The size is known, and
held to its limit, before anything is decoded.
"""

import binascii
import re
from collections.abc import Iterable, Iterator
from io import BytesIO
from urllib.parse import unquote, unquote_to_bytes

import msgspec

from penstock.core.media_types import file_name
from penstock.errors import InputTooLarge, InvalidRequest

MAX_ON_LOOP = 8 * 1024
"""Longest data: URI (characters) that the event loop looks at itself: a thread would take longer. A hostile header of
this size inflates to some megabytes at most, a few milliseconds of work."""

MAX_HEAD = 1000
"""How much of a data: URI is searched for its media type and file name (characters)."""

LONGEST_HEAD = 16 * 1024
"""Where the comma of a data: URI must be (characters)."""

PIECE = 64 * 1024
"""So much of a long data: URI is decoded at a time (characters, a multiple of 4): other threads have their turn."""

BARE_FROM = 64
"""From this many characters on, text that is nothing but base64 is taken for an image, not for a path or a name."""

_BARE = re.compile(r"[A-Za-z0-9+/_\-=\r\n]+")
_IMAGES_IN_BASE64 = ("iVBORw0KGgo", "/9j/", "UklGR")
"""How PNG, JPEG and WebP begin in base64."""

_NAME = re.compile(r';\s*name=(?:"([^"]*)"|([^;]*))', re.IGNORECASE)
_STANDARD = bytes.maketrans(b"-_", b"+/")
_WHITE_SPACE = b" \t\r\n\f"


def is_inline(url: str) -> bool:
    """Return whether the URL is a data: URI."""
    return url[:5].lower() == "data:"


def is_long(url: str) -> bool:
    """Return whether a thread should look at this data: URI."""
    return len(url) > MAX_ON_LOOP


def refuse_bare_base64(url: str) -> None:
    """Raise InvalidRequest for the base64 of an image that is sent as if it were a URL; the detail says what lacks."""
    looks_so = url.startswith(_IMAGES_IN_BASE64) or len(url) >= BARE_FROM
    if looks_so and _BARE.fullmatch(url, 0, BARE_FROM):
        raise InvalidRequest("this is base64, not a URL: put `data:;base64,` in front of it")


def declared_in(uri: str) -> tuple[str | None, str | None]:
    """Return the media type that a data: URI gives, and the file name in its parameter `name`."""
    head = uri[5 : max(5, uri.find(",", 5, MAX_HEAD))]
    name = _NAME.search(head)
    return head.partition(";")[0].strip() or None, file_name(unquote(name[1] or name[2] or "")) if name else None


def bytes_of(uri: str, max_bytes: int, what: str = "image") -> bytes:
    """Return the bytes of an image or file (`what`) of at most `max_bytes`. Raises InvalidRequest, InputTooLarge."""
    comma = uri.find(",", 0, LONGEST_HEAD)
    if comma < 0:
        raise InvalidRequest("a data: URI must look like data:image/png;base64,iVBORw0...")
    is_base64 = uri[5:comma].rpartition(";")[2].strip().lower() == "base64"
    return (_from_base64 if is_base64 else _from_percent)(uri, comma + 1, max_bytes, what)


def _from_percent(uri: str, start: int, max_bytes: int, what: str) -> bytes:
    """Decode bytes that are written as text, most of them as `%` and two hex digits."""
    length = len(uri) - start if uri.isascii() else len(uri[start:].encode())
    escapes = sum(uri.count("%", at, at + PIECE) for at in range(start, len(uri), PIECE))
    _check_size(length - 2 * escapes, max_bytes, what)
    data = _together(_unquoted(uri, start))
    _check_size(len(data), max_bytes, what)  # a `%` without digits stands for itself
    return data


def _from_base64(uri: str, start: int, max_bytes: int, what: str) -> bytes:
    length = len(uri) - start
    if length // 4 * 3 - uri.count("=", -2) <= max_bytes:
        try:  # what nearly all send, in a third of the time that binascii takes
            if length <= PIECE:
                return msgspec.convert(uri[start:], bytes)
            if uri.find("=", start, -2) < 0:
                places = range(start, len(uri), PIECE)
                return _together(msgspec.convert(uri[at : at + PIECE], bytes) for at in places)
        except msgspec.ValidationError:
            pass
    else:
        _check_size(sum(map(len, _digits(uri, start))) * 3 // 4, max_bytes, what)
    data = _together(_binary(digits) for digits in _in_fours(_digits(uri, start)))
    _check_size(len(data), max_bytes, what)
    return data


def _together(pieces: Iterable[bytes]) -> bytes:
    """Returns the pieces as one, without having them all beside it."""
    whole = BytesIO()
    whole.writelines(pieces)
    return whole.getvalue()


def _in_fours(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yields digits of base64 in pieces that can be decoded each by itself, the last one with its padding."""
    rest = b""
    for piece in pieces:
        rest += piece
        whole = len(rest) // 4 * 4
        yield rest[:whole]
        rest = rest[whole:]
    yield rest + b"=" * (-len(rest) % 4)


def _binary(digits: bytes) -> bytes:
    try:
        return binascii.a2b_base64(digits, strict_mode=True)
    except binascii.Error as error:
        raise InvalidRequest("the data: URI is not valid base64") from error


def _digits(uri: str, start: int) -> Iterator[bytes]:
    """Yields base64 in the standard alphabet, without percent-encoding, white space and padding."""
    is_over = False
    for piece in _unquoted(uri, start):
        digits, padding, rest = piece.translate(_STANDARD, _WHITE_SPACE).partition(b"=")
        if rest.strip(b"=") or (is_over and digits):
            raise InvalidRequest("the data: URI is not valid base64")
        is_over = is_over or bool(padding)
        yield digits


def _unquoted(uri: str, start: int) -> Iterator[bytes]:
    """Yields what is percent-encoded, a piece at a time: at once, each `%` would take 40 bytes for a moment."""
    while start < len(uri):
        end = start + PIECE
        cut = uri.rfind("%", end - 2, end) if end < len(uri) else -1
        end = cut if cut > start else end  # no escape is cut in two
        yield unquote_to_bytes(uri[start:end])
        start = end


def _check_size(size: int, max_bytes: int, what: str) -> None:
    if size > max_bytes:
        raise InputTooLarge(f"the {what} has {size} bytes, the limit is {max_bytes}")
