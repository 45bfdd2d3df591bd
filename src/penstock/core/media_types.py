"""Media types of files: what the first bytes say, and what a member of an input takes. Pure.

A declared type counts only where the bytes say nothing, or leave it open: many formats are ZIP archives, and a
container of video may hold nothing but sound.
"""

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

BEGINNING_BYTES = 512
"""As many bytes are looked at; the name of a tar archive's format, at 257, is the farthest."""

UNKNOWN = "application/octet-stream"

SAYS_NOTHING = {"", UNKNOWN, "binary/octet-stream", "application/x-www-form-urlencoded", "application/unknown"}
"""Declared types that only tell that a client, or a bucket, did not know."""


class Kind(Struct, frozen=True):
    """What the first bytes of a file say: its `type`, and other names and types, or `application/*`, that the same
    bytes may have."""

    type: str
    others: tuple[str, ...] = ()


_WAV = ("audio/x-wav", "audio/wave", "audio/vnd.wave")
_OGG = ("audio/ogg", "audio/opus", "video/ogg", "application/ogg")
_SOUND_OR_VIDEO = ("audio/mp4", "audio/m4a", "audio/x-m4a", "audio/aac", "video/mp4", "video/x-m4v", "video/quicktime")
_MATROSKA = ("audio/webm", "video/webm", "video/x-matroska", "audio/x-matroska")
_ANY_DATA = ("application/*",)

_TABLE: tuple[tuple[bytes, Kind], ...] = (
    (rb"\x89PNG\r\n\x1a\n", Kind("image/png")),
    (rb"\xff\xd8\xff", Kind("image/jpeg", ("image/jpg",))),
    (rb"RIFF....WEBP", Kind("image/webp")),
    (rb"GIF8[79]a", Kind("image/gif")),
    (rb"(?:II\*\0|MM\0\*)", Kind("image/tiff", ("image/*",))),
    (rb"BM....\0\0\0\0", Kind("image/bmp", ("image/x-ms-bmp",))),
    (rb"....ftypavi[fs]", Kind("image/avif")),
    (rb"....ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", Kind("image/heic", ("image/heif", "image/avif"))),
    (rb"\0\0\0\x0cJXL \r\n\x87\n", Kind("image/jxl")),
    (rb"8BPS\0[\x01\x02]", Kind("image/vnd.adobe.photoshop")),
    (rb"RIFF....WAVE|RF64....WAVE", Kind("audio/wav", _WAV)),
    (rb"ID3[\x02-\x04]", Kind("audio/mpeg", ("audio/mp3", "audio/aac", "audio/flac"))),
    # Frame sync of layer III, a bit rate and a sample rate that exist.
    (rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\x1b\x20-\x2b\x30-\x3b\x40-\x4b\x50-\x5b\x60-\x6b\x70-\x7b"
     rb"\x80-\x8b\x90-\x9b\xa0-\xab\xb0-\xbb\xc0-\xcb\xd0-\xdb\xe0-\xeb]", Kind("audio/mpeg", ("audio/mp3",))),
    (rb"fLaC\0", Kind("audio/flac", ("audio/x-flac",))),
    (rb"OggS\0.{23,280}?\x80theora", Kind("video/ogg", _OGG)),
    (rb"OggS\0", Kind("audio/ogg", _OGG)),
    (rb"FORM....AIF[FC]", Kind("audio/aiff", ("audio/x-aiff",))),
    (rb"#!AMR", Kind("audio/amr")),
    (rb"MThd\0\0\0\x06", Kind("audio/midi", ("audio/x-midi",))),
    (rb"....ftypM4[AB]", Kind("audio/mp4", _SOUND_OR_VIDEO)),
    (rb"....ftypqt  ", Kind("video/quicktime", _SOUND_OR_VIDEO)),
    (rb"....ftyp3g", Kind("video/3gpp", ("audio/3gpp", *_SOUND_OR_VIDEO))),
    (rb"....ftyp", Kind("video/mp4", _SOUND_OR_VIDEO)),
    (rb"\x1aE\xdf\xa3.{0,60}?webm", Kind("video/webm", _MATROSKA)),
    (rb"\x1aE\xdf\xa3", Kind("video/x-matroska", _MATROSKA)),
    (rb"RIFF....AVI ", Kind("video/x-msvideo", ("video/avi",))),
    (rb"\0\0\x01\xba", Kind("video/mpeg", ("video/mp2p",))),
    (rb"FLV\x01", Kind("video/x-flv")),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Kind("video/x-ms-asf", ("video/x-ms-wmv", "audio/x-ms-wma"))),
    (rb"%PDF-", Kind("application/pdf")),
    (rb"\x93NUMPY", Kind("application/x-npy", _ANY_DATA)),
    (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", Kind("application/zip", (*_ANY_DATA, "model/3mf"))),
    (rb"\x1f\x8b\x08", Kind("application/gzip", (*_ANY_DATA, "image/svg+xml"))),
    (rb"BZh[1-9]1AY&SY", Kind("application/x-bzip2", _ANY_DATA)),
    (rb"\xfd7zXZ\0", Kind("application/x-xz", _ANY_DATA)),
    (rb"\x28\xb5\x2f\xfd", Kind("application/zstd", _ANY_DATA)),
    (rb"7z\xbc\xaf\x27\x1c", Kind("application/x-7z-compressed")),
    (rb"Rar!\x1a\x07", Kind("application/vnd.rar", ("application/x-rar-compressed",))),
    (rb".{257}ustar", Kind("application/x-tar", _ANY_DATA)),
    (rb".{128}DICM", Kind("application/dicom")),
    (rb"\x89HDF\r\n\x1a\n", Kind("application/x-hdf5", _ANY_DATA)),
    (rb"PAR1", Kind("application/vnd.apache.parquet", _ANY_DATA)),
    (rb"SQLite format 3\0", Kind("application/vnd.sqlite3", _ANY_DATA)),
    (rb"glTF[\x01\x02]\0\0\0", Kind("model/gltf-binary")),
)  # fmt: skip
"""Formats that begin with bytes of their own. Those that could as well begin a text, or raw numbers, are left out: a
declared type would not count against them."""

_ROWS = tuple((re.compile(magic, re.DOTALL), kind) for magic, kind in _TABLE)


def kind_of(beginning: bytes) -> Kind | None:
    """What the first `BEGINNING_BYTES` of a file say; None where they say nothing."""
    return next((kind for magic, kind in _ROWS if magic.match(beginning)), None)


_NAME = r"[!-)+-.0-~]"
"""A letter of a media type, without `*`: `image/*` says what is wanted, not what a file is."""


def declared_type(declared: str | None) -> str | None:
    """A declared media type in lower case and without parameters; None where it says nothing, or is none."""
    plain = (declared or "").partition(";")[0].strip().lower()
    return plain if plain not in SAYS_NOTHING and re.fullmatch(rf"{_NAME}{{1,63}}/{_NAME}{{1,100}}", plain) else None


def media_type(beginning: bytes, declared: str | None = None) -> str:
    """The media type of a file: as its bytes say, else as it was declared, else `application/octet-stream`."""
    kind, said = kind_of(beginning), declared_type(declared)
    if kind is None:
        return said or UNKNOWN
    return said if said and _meets_any(said, kind.others) else kind.type


def fits(media_types: Iterable[str], beginning: bytes, declared: str | None = None) -> bool:
    """Whether a file may be one of these types, such as `audio/wav` or `audio/*`. One of which neither its bytes nor
    the client say anything may be any, and so may every file where no types are given."""
    wanted = [one.lower() for one in media_types]
    found = media_type(beginning, declared)
    if not wanted or found == UNKNOWN:
        return True
    kind = kind_of(beginning)
    may_be = (found, *(kind.others if kind and found == kind.type else ()))
    return any(_meets_any(one, may_be) for one in wanted)


def mismatch(media_types: Sequence[str], beginning: bytes, declared: str | None = None) -> str | None:
    """What is wrong with a file that is none of these types, in words for a client; None where it `fits`. What was
    declared is not repeated."""
    if fits(media_types, beginning, declared):
        return None
    kind = kind_of(beginning)
    return f"the file is {kind.type if kind else 'of another type'}; the model takes {', '.join(media_types)}"


def file_name(text: str) -> str:
    """What of a text may be the name of a file: its last part, in characters that can be printed."""
    last = text.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:255]


def _meets_any(one: str, others: Iterable[str]) -> bool:
    return any(_meets(one, other) for other in others)


def _meets(one: str, other: str) -> bool:
    (kind, _, form), (other_kind, _, other_form) = one.partition("/"), other.partition("/")
    return (kind == other_kind or "*" in (kind, other_kind)) and (form == other_form or "*" in (form, other_form))
