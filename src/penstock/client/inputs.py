"""The input of a task: what callers may give, and its form in a request."""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, TypeGuard
from urllib.parse import quote

from penstock.client.files import DIRECT_BYTES, Contents, name_of, read_all, size_of
from penstock.client.media_types import media_type_of
from penstock.client.views import Upload

Inputs = Mapping[str, object]
"""The members of an input by their names in the model's card. Bytes, a `Path`, a file that is open for reading in
binary mode, and what `upload` has given are files; any other value, such as a URL or a text, is sent as it is."""

Source = str | bytes | Path | IO[bytes] | Upload | Inputs
"""The one image of a model: bytes, a path, an open file, what `upload` has given, or a string: an `http:`, `https:`,
`s3:` or `data:` URL is sent as it is, else it is a path. Or the members of an input, as `Inputs` says."""

SCHEMES = ("http://", "https://", "s3://", "data:")

SOLE_IMAGE = "image_url"
"""The member of an input that is one image."""


def source_of(source: Source | None, inputs: Inputs | None) -> Source:
    """Returns what was given of the two. Raises TypeError if it is not exactly one."""
    if (source is None) == (inputs is None):
        raise TypeError("give one of source and inputs")
    return source if source is not None else inputs  # type: ignore[return-value]


def is_url(source: object) -> TypeGuard[str]:
    """Whether only the server can fetch this, or the bytes are in it."""
    return isinstance(source, str) and source.lower().startswith(SCHEMES)


def large_files(source: Source) -> dict[str, Contents]:
    """Returns the files of the source that have no room inside of a request, by member. Raises OSError if one cannot be
    read."""
    room, large = DIRECT_BYTES, {}
    for name, value in _members_of(source).items():
        if not _is_contents(value):
            continue
        size = size_of(value)
        if size > room:
            large[name] = value
        else:
            room -= size
    return large


def with_uploads(source: Source, uploads: Mapping[str, Upload]) -> Source:
    """Returns the source with uploads in place of the files that `large_files` has named."""
    if isinstance(source, Mapping):
        return {**source, **uploads}
    return uploads.get(SOLE_IMAGE, source)


def input_of(source: Source) -> dict[str, Any]:
    """Returns the `input` of a request, with files as `data:` URLs. Raises OSError if one cannot be read."""
    if isinstance(source, Upload):
        return {"upload_id": source.upload_id}
    if isinstance(source, Mapping):
        return {name: _sent(value) for name, value in source.items()}
    if is_url(source):
        return {SOLE_IMAGE: str(source)}  # it may be of a subclass, such as numpy's
    return {SOLE_IMAGE: _data_url(_members_of(source)[SOLE_IMAGE])}


def _members_of(source: Source) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    is_sent = is_url(source) or isinstance(source, Upload) or _is_contents(source)
    return {SOLE_IMAGE: source if is_sent else Path(source)}  # type: ignore[arg-type]  # TypeError is what it is for


def _sent(value: Any) -> Any:
    if isinstance(value, Upload):
        return {"upload_id": value.upload_id}
    if _is_contents(value):
        return _data_url(value, name_of(value))
    return str(value) if isinstance(value, str) else value


def _data_url(contents: Contents, name: str = "") -> str:
    named = f";name={quote(os.fsencode(name), safe='')}" if name else ""
    return f"data:{media_type_of(name)}{named};base64,{base64.b64encode(read_all(contents)).decode()}"


def _is_contents(value: object) -> TypeGuard[Contents]:
    return isinstance(value, bytes | Path) or hasattr(value, "read")
