"""Colours: whatever an image has, as sRGB and a transparency apart."""

from penstock.pixels.colours.keys import form_of, read_as, with_exact_key
from penstock.pixels.colours.parts import as_it_is, parts_of, picture_of, signal_in

__all__ = ["as_it_is", "form_of", "parts_of", "picture_of", "read_as", "signal_in", "with_exact_key"]
