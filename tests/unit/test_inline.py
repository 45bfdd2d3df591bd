"""data: URIs in the forms that clients write, and the sizes that are decoded."""

import base64
from urllib.parse import quote

import pytest

from penstock.errors import InputTooLarge, InvalidRequest
from penstock.intake.inline import BARE_FROM, bytes_of, declared_in, refuse_bare_base64

DATA = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) + b"\xfb\xff\xbf"
PLAIN = base64.b64encode(DATA).decode()
UNPADDED = base64.b64encode(DATA + b"x").decode().rstrip("=")

FORMS = {
    "the usual one": f"data:image/png;base64,{PLAIN}",
    "no media type": f"data:;base64,{PLAIN}",
    "no head at all": f"data:base64,{PLAIN}",
    "the type that browsers do not know": f"data:image/jpg;base64,{PLAIN}",
    "no image's type": f"data:application/octet-stream;base64,{PLAIN}",
    "parameters": f'data:image/png;charset=utf-8;name="a;b.png";base64,{PLAIN}',
    "capitals": f"DATA:IMAGE/PNG;BASE64,{PLAIN}",
    "blanks around the word": f"data:image/png; base64 ,{PLAIN}",
    "line breaks": "data:image/png;base64," + base64.encodebytes(DATA).decode().replace("\n", "\r\n"),
    "the URL-safe alphabet": "data:image/png;base64," + base64.urlsafe_b64encode(DATA).decode(),
    "percent-encoded base64": "data:image/png;base64," + quote(PLAIN, safe=""),
    "percent-encoded line breaks": "data:image/png;base64," + quote(base64.encodebytes(DATA).decode()),
    "percent-encoded bytes": "data:image/png," + quote(DATA),
}

BROKEN = {
    "no comma": "data:image/png;base64",
    "padding inside": "data:;base64,AB=C",
    "a digit alone": "data:;base64,AAAAA",
    "other characters": "data:;base64,AAAA*AAA",
    "letters outside of ASCII": "data:;base64,ÄÄÄÄ",
}


@pytest.mark.parametrize("form", FORMS)
def test_an_image_is_read_from_a_uri_with(form: str) -> None:
    assert bytes_of(FORMS[form], len(DATA)) == DATA


def test_missing_padding_is_no_fault() -> None:
    assert bytes_of(f"data:;base64,{UNPADDED}", len(DATA) + 1) == DATA + b"x"


@pytest.mark.parametrize("form", BROKEN)
def test_a_uri_is_refused_for(form: str) -> None:
    with pytest.raises(InvalidRequest):
        bytes_of(BROKEN[form], 1000)


@pytest.mark.parametrize("form", FORMS)
def test_one_byte_over_the_limit_is_too_large_with(form: str) -> None:
    with pytest.raises(InputTooLarge):
        bytes_of(FORMS[form], len(DATA) - 1)


@pytest.mark.parametrize(
    ("head", "name"),
    [('name="a;b.png"', "a;b.png"), ("name=a%20b.png", "a b.png"), ('name=""', ""), ("name=", ""), ("charset=x", None)],
)
def test_a_uri_may_name_its_file(head: str, name: str | None) -> None:
    assert declared_in(f"data:image/png;{head};base64,QUJD") == ("image/png", name)


def test_a_percent_sign_before_no_digits_counts_as_what_it_is() -> None:
    uri = "data:," + "%zz" * 100

    assert bytes_of(uri, 300) == b"%zz" * 100
    with pytest.raises(InputTooLarge):
        bytes_of(uri, 299)


@pytest.mark.parametrize("text", [PLAIN, PLAIN[:BARE_FROM], "/9j/4AAQ"])
def test_bare_base64_is_called_by_its_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="this is base64"):
        refuse_bare_base64(text)


@pytest.mark.parametrize("text", ["https://example.com/" + "a" * 100, "photo", "/home/me/photo.png", "s3://b/key", ""])
def test_what_may_be_a_url_or_a_path_is_not_taken_for_base64(text: str) -> None:
    refuse_bare_base64(text)
