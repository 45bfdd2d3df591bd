"""Makes the profile of a press that CMYK without one is taken for: the part of Chemical proof that leads to colours.

    python -m tools.press_profile FULL.icc src/penstock/pixels/colours/chemical-proof.icc

Chemical proof was made by Graeme W. Gill (ArgyllCMS) and released into the public domain. libvips has it built in:
`vips profile_load cmyk FULL.icc` writes the whole of 940 KiB, of which most are the way back and the measurements.
"""

import struct
import sys
from pathlib import Path

KEPT = (b"desc", b"cprt", b"wtpt", b"bkpt", b"A2B0")
HEADER, ENTRY = 128, struct.Struct(">4sII")


def reduced(profile: bytes) -> bytes:
    """The profile with the tags that are kept, and without its digest, which was of the whole."""
    (count,) = struct.unpack_from(">I", profile, HEADER)
    entries = [ENTRY.unpack_from(profile, HEADER + 4 + ENTRY.size * n) for n in range(count)]
    kept = [(kind, profile[at : at + size]) for kind, at, size in entries if kind in KEPT]
    table, body = struct.pack(">I", len(kept)), b""
    begin = HEADER + 4 + ENTRY.size * len(kept)
    for kind, data in kept:
        table += ENTRY.pack(kind, begin + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = bytearray(profile[:HEADER])
    header[:4] = (begin + len(body)).to_bytes(4)
    header[84:100] = bytes(16)
    return bytes(header) + table + body


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(reduced(Path(sys.argv[1]).read_bytes()))
