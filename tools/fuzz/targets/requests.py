"""What the bodies of requests have in them: JSON, data: URIs, forms."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import msgspec
from multipart import parse_options_header

from penstock.api.replicate.files import MAX_NAME, MEDIA_TYPE, file_of_form
from penstock.errors import InputTooLarge, InvalidRequest, MalformedRequest, PayloadTooLarge
from penstock.intake import inline, json_bounds, parse
from penstock.intake.requests import BatchRequest, TaskRequest
from tools.fuzz.target import ACCEPTED, refusal

# --- JSON ----------------------------------------------------------------------------------------------------------

BOUNDS = {"MAX_DEPTH": 12, "MAX_VALUES": 60, "MAX_MEMBERS": 40, "MAX_QUOTES": 60, "SMALL_BYTES": 0}
"""So small that short inputs come to them; and no input is too short to be looked at."""
MOST_JSON = 600

BODIES = (
    b'{"model":"noop-v1","input":{"image_url":"data:image/png;base64,iVBORw0KGgo="},"params":{"a":[1,{"b":null}]}}',
    b'{"model":"m","input":{"upload_id":"upl_0123456789abcdef0123456789abcdef"},"priority":null,"output":'
    b'{"format":"jpg","quality":90},"metadata":{"a":"b"},"timeout_s":1.5e1,"links":{"token":true}}',
    b'{"model":"m","lines":[{"custom_id":"a","input":{"image_url":"http://a/"}},{"custom_id":"\\u00e9\\\\"}]}',
    b'{"a":"\\"[{","b":[[[]],{"c":{}}],"d":"data:,\xc3\xa9\\\\","e":[true,false,null,-0.5E-3]}',
    b"[" * 11 + b"[],[],[],[],[]" + b"]" * 11,
    b"[" + b"0," * 59 + b"0]",
    b"[{" + b'"a":[],' * 19 + b'"b":1}]',
    b'\xef\xbb\xbf {"model" : "m" , "input" : { "x" : null } , "params" : null }',
)
JSON_WORDS = (
    b'"', b'\\"', b"\\\\", b"\\u0022", b"\\ud800", b"[", b"]", b"{", b"}", b"[]", b"{}", b",", b":", b'":"', b'"data:',
    b'"data:;base64,', b"null", b"null,", b'"model":', b'"input":', b'"params":', b'"lines":', b'"custom_id":',
    b"1e999", b"-0", b"9" * 30, b"NaN", b"\xef\xbb\xbf", b"\x00", b"[[[[[[[[", b"1,1,1,1,1,1,1,1,", b'"a":1,',
)  # fmt: skip


def check_of_json(data: bytes) -> str:
    """The bounds count what a parser finds, and a body decodes to a request, whichever way it is decoded."""
    with _constants(json_bounds, BOUNDS):
        outcome = _bounded(data)
    for kind in (TaskRequest, BatchRequest):
        outcome = _decoded(data, kind) if outcome == ACCEPTED else outcome
        outcome = ACCEPTED if outcome.startswith("invalid_request") else outcome
    return outcome


def _bounded(data: bytes) -> str:
    tree = _tree(data)
    try:
        structure = json_bounds.structure_of(data, MOST_JSON)
    except (MalformedRequest, PayloadTooLarge) as error:
        assert tree is None or _is_over(data, tree), f"refused without a reason: {error}"
        return refusal(error)
    assert len(structure) <= MOST_JSON
    if tree is None:
        return "not JSON"
    assert not _is_over_counts(tree)
    assert structure.count(b"[") + structure.count(b"{") == _containers(tree[0])
    assert b'"' not in structure
    return ACCEPTED


def _tree(data: bytes) -> tuple[Any] | None:
    """What a parser that knows no bounds finds: members of one name are kept apart."""
    try:
        text = data.decode()
        return (json.loads(text, object_pairs_hook=_Members, parse_constant=_refuse),)
    except (ValueError, RecursionError):
        return None


class _Members(list[tuple[str, Any]]):
    """The members of an object, in their order."""


def _refuse(word: str) -> None:
    raise ValueError(word)


def _is_over(data: bytes, tree: tuple[Any]) -> bool:
    outside = re.sub(rb'"(?:\\.|[^"\\])*"', _without_data_uris, data, flags=re.DOTALL)
    return _is_over_counts(tree) or data.count(b'"') >= BOUNDS["MAX_QUOTES"] or len(outside) > MOST_JSON - 120


def _without_data_uris(found: re.Match[bytes]) -> bytes:
    is_uri = found[0][1:6].lower() == b"data:" and found[0].isascii()
    return b"" if is_uri else found[0]


def _is_over_counts(tree: tuple[Any]) -> bool:
    containers, members, commas, depth = _counts(tree[0])
    return containers + members > BOUNDS["MAX_MEMBERS"] or commas > BOUNDS["MAX_VALUES"] or depth > BOUNDS["MAX_DEPTH"]


def _containers(value: Any) -> int:
    return _counts(value)[0]


def _counts(value: Any) -> tuple[int, int, int, int]:
    """Containers, members of objects, commas and levels."""
    if not isinstance(value, list):
        return 0, 0, 0, 0
    is_object = isinstance(value, _Members)
    inner = [_counts(item[1] if is_object else item) for item in value]
    return (
        1 + sum(one[0] for one in inner),
        (len(value) if is_object else 0) + sum(one[1] for one in inner),
        max(0, len(value) - 1) + sum(one[2] for one in inner),
        1 + max((one[3] for one in inner), default=0),
    )


def _decoded(data: bytes, kind: Any) -> str:
    """The request, decoded as a short body is; a long one says the same."""
    results: list[Any] = []
    for on_loop in (parse.ON_LOOP_BYTES, 0):
        with _constants(parse, {"ON_LOOP_BYTES": on_loop}):
            try:
                results.append(parse.decode(data, kind, max_bytes=MOST_JSON))
            except (MalformedRequest, InvalidRequest, PayloadTooLarge) as error:
                assert error.param is None or len(error.param) <= parse.SHOWN
                msgspec.json.encode(error.detail)
                results.append(refusal(error))
    short, long = results
    assert short == long
    return short if isinstance(short, str) else ACCEPTED


@contextmanager
def _constants(module: Any, values: dict[str, int]) -> Iterator[None]:
    """Sets constants of a module for a while."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


# --- data: URIs ----------------------------------------------------------------------------------------------------

MOST_INLINE = 512
_BYTES = b"\x89PNG\r\n\x1a\n" + bytes(range(0, 256, 3)) + b"\xfb\xff\xbf"
_PLAIN = base64.b64encode(_BYTES)

URIS = (
    b"data:image/png;base64," + _PLAIN,
    b"data:;base64," + base64.b64encode(_BYTES + b"x").rstrip(b"="),
    b"data:;base64," + base64.urlsafe_b64encode(_BYTES),
    b"data:;base64," + base64.encodebytes(_BYTES),
    b"DATA:image/png; BASE64 ," + quote(_PLAIN, safe="").encode(),
    b'data:text/plain;charset=utf-8;name="a;b.png";base64,QUJD',
    b"data:image/png;name=%2e%2e%2fa.png," + quote(_BYTES).encode(),
    "data:,ä%zz%4".encode(),
    b"data:;base64," + quote(base64.encodebytes(_BYTES)).encode(),
)
URI_WORDS = (
    b"data:", b";base64,", b"base64", b",", b"=", b"==", b"%", b"%3D", b"%3d%3D", b"%2", b"%0A", b"\r\n", b" ", b"-_",
    b"+/", b"A", b"AA", b"AAA", b"AAAA", b"QUJD" * 16, b"%41" * 20, b'";name="', b";name=", b"%00", "é".encode(),
)  # fmt: skip


def check_of_data_uri(data: bytes) -> str:
    """What is decoded is what a plain decoder decodes, in pieces of any size, and comes back from each form."""
    uri = data.decode(errors="replace")  # JSON carries no lone surrogates
    media_type, name = inline.declared_in(uri)
    assert name is None or (len(name) <= 255 and "/" not in name)
    assert media_type is None or len(media_type) <= inline.MAX_HEAD
    whole, pieces = _inline(uri, inline.PIECE), _inline(uri, 8)
    assert whole == pieces
    if isinstance(whole, str):
        return whole
    assert len(whole) <= MOST_INLINE
    assert whole == _by_plain_decoder(uri)
    for form in ("data:;base64," + base64.b64encode(whole).decode(), "data:," + quote(whole)):
        assert inline.bytes_of(form, len(whole)) == whole
    return ACCEPTED


def _inline(uri: str, piece: int) -> bytes | str:
    with _constants(inline, {"PIECE": piece}):
        try:
            return inline.bytes_of(uri, MOST_INLINE)
        except (InvalidRequest, InputTooLarge) as error:
            return refusal(error)


def _by_plain_decoder(uri: str) -> bytes | None:
    head, _, rest = uri.partition(",")
    plain = unquote_to_bytes(rest)
    if head[5:].rpartition(";")[2].strip().lower() != "base64":
        return plain
    digits = plain.translate(bytes.maketrans(b"-_", b"+/"), b" \t\r\n\f").rstrip(b"=")
    try:
        return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)
    except binascii.Error:
        return None


# --- forms ---------------------------------------------------------------------------------------------------------

_PART = b'--b\r\nContent-Disposition: form-data; name="content"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
_META = b'\r\n--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{"a":1}\r\n--b--\r\n'

FORMS = (
    b"multipart/form-data; boundary=b\n" + _PART + _BYTES + _META,
    b'multipart/form-data; boundary="b"; charset=utf-8\n' + _PART + b"x\r\n--b--",
    b"multipart/form-data; boundary=b\n" + _PART.replace(b'"a.png"', b"a.png") + b"x" + _META.replace(b'{"a":1}', b"1"),
    b"multipart/form-data; boundary=b\n" + _PART.replace(b"filename=", b"filename*=utf-8''") + b"x" + _META,
    b"multipart/form-data; boundary=b\n" + _PART.replace(b"a.png", b"a" * 300) + b"x" + _META,
    b"multipart/form-data; boundary=b\npreamble\r\n" + _PART + b"\r\n--b \r\n--bb\r\n-" + _META,
)
FORM_WORDS = (
    b"--b", b"\r\n--b\r\n", b"\r\n--b--", b"\r\n", b"\n", b"\r", b"multipart/form-data; boundary=", b"b", b'"', b"\\",
    b";", b'name="content"', b'name="metadata"', b"name=", b'; filename="', b"filename*=utf-8''%e2%82", b"../../a",
    b"Content-Disposition: form-data; ", b"Content-Type: ", b"Content-Length: 1\r\n", b"a/b; charset=utf-16",
    b"charset=idna", b"charset=rot13", b"charset=utf-7", b"_charset_", b"\xff", b"{", b'{"a":', b"[" * 40, b"\x1f",
)  # fmt: skip


def check_of_form(data: bytes) -> str:
    """A file of a form has a short name, a plain type and its own bytes, and comes back from the form that it makes."""
    head, _, body = data.partition(b"\n")
    declared, options = parse_options_header(head.decode("latin-1"))
    if declared != MEDIA_TYPE:
        return "another media type"
    try:
        file = file_of_form(body, options.get("boundary", ""))
    except (MalformedRequest, InvalidRequest) as error:
        return refusal(error)
    assert 0 < len(file.facts.name) <= MAX_NAME
    assert re.fullmatch(r"[ -~]{3,100}", file.content_type)
    assert file.data in body
    assert hashlib.sha256(file.data).hexdigest() == file.sha256
    msgspec.json.encode(file.facts)
    return ACCEPTED
