"""Colours: whatever an image has, as sRGB and a transparency apart."""

from penstock.pixels.colours.kept import take_profile
from penstock.pixels.colours.keys import form_of, read_as, with_exact_key
from penstock.pixels.colours.parts import parts_of, picture_of, signal_in

__all__ = ["form_of", "parts_of", "picture_of", "read_as", "signal_in", "take_profile", "with_exact_key"]
