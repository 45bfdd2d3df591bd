"""Colours: whatever an image has, as sRGB with 8 bits and a transparency apart."""

from penstock.pixels.colours.keys import with_exact_key
from penstock.pixels.colours.parts import parts_of, picture_of, profile_note

__all__ = ["parts_of", "picture_of", "profile_note", "with_exact_key"]
