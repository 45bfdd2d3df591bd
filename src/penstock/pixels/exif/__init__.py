"""The metadata of an input that a result may keep: EXIF, rewritten, and the pixels per inch."""

from penstock.pixels.exif.blocks import FileMetadata, metadata_of
from penstock.pixels.exif.directories import rewritten

__all__ = ["FileMetadata", "metadata_of", "rewritten"]
