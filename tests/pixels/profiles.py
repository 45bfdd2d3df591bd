"""ICC profiles byte by byte: with no more tags than a reader needs."""

import struct

COLUMNS = {
    "sRGB": ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)),
    "Adobe RGB": ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
    "P3": ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
}
"""XYZ of red, green and blue, adapted to D50, as the profiles of these names have them."""


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def matrix_profile(gamma: float, *, primaries: str = "sRGB", is_grey: bool = False) -> bytes:
    """A profile of one gamma, for RGB of these primaries or for greys."""
    curve = b"para" + bytes(4) + bytes(4) + _fixed(gamma)
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(79),
        b"cprt": b"text" + bytes(4) + b"none\0\0\0\0",
        b"wtpt": b"XYZ " + bytes(4) + _fixed(0.9642, 1.0, 0.8249),
    }
    if is_grey:
        tags[b"kTRC"] = curve
    else:
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
        names = (b"rXYZ", b"gXYZ", b"bXYZ")
        tags |= {name: b"XYZ " + bytes(4) + _fixed(*xyz) for name, xyz in zip(names, COLUMNS[primaries], strict=True)}
    begin = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for kind, data in tags.items():
        table += struct.pack(">4sII", kind, begin + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    space = b"GRAY" if is_grey else b"RGB "
    header = struct.pack(">I4sI4s4s4s", begin + len(body), bytes(4), 0x04200000, b"mntr", space, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + _fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + table + body
