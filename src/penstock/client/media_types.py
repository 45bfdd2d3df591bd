"""Media types and suffixes of files. They do not depend on the tables that a machine has in /etc."""

import mimetypes

_TABLE = mimetypes.MimeTypes()

ADDED = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".mkv": "video/x-matroska",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".npy": "application/x-npy",
    ".npz": "application/x-npz",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
}
"""What Python does not know, or calls by an old name."""

for _suffix, _media_type in ADDED.items():
    _TABLE.add_type(_media_type, _suffix)


def media_type_of(name: str) -> str:
    """Returns the media type that a file name stands for, else an empty text."""
    media_type, encoding = _TABLE.guess_type(f"/{name}")  # a name that looks like a URL is a name
    return media_type if media_type and not encoding else ""


def suffix_of(media_type: str) -> str:
    """Returns the suffix of files of a media type, `.bin` if it has none. Parameters of the type are ignored."""
    return _TABLE.guess_extension(media_type.partition(";")[0].strip()) or ".bin"
