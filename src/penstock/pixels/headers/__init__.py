"""Reads what files of images say of themselves: size, frames, scans and chunks, and where they end.

Nothing is decoded or inflated, and nothing is copied but a few bytes: a file costs at most one pass over it, and no
more chunks, scans and frames are looked at than are allowed. The API and the workers refuse images by this.
"""

from penstock.pixels.headers.header import ImageBounds, ImageHeader
from penstock.pixels.headers.reader import MEDIA_TYPES, TAKEN, content_type_of, end_of, probe, probe_beginning

__all__ = [
    "MEDIA_TYPES",
    "TAKEN",
    "ImageBounds",
    "ImageHeader",
    "content_type_of",
    "end_of",
    "probe",
    "probe_beginning",
]
