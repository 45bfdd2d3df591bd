"""Colours: whatever an image has, as sRGB and a transparency apart."""

from penstock.pixels.colours.kept import for_colours, take_profile
from penstock.pixels.colours.keys import form_of, read_as, with_exact_key
from penstock.pixels.colours.parts import parts_of, picture_of, profile_note, signal_in

__all__ = [
    "for_colours",
    "form_of",
    "parts_of",
    "picture_of",
    "profile_note",
    "read_as",
    "signal_in",
    "take_profile",
    "with_exact_key",
]
