"""The reader of EXIF: whatever a file says, a result gets a block of known tags, or none."""

import io
from functools import cache

from PIL import Image

from penstock.pixels.exif import metadata_of, rewritten
from penstock.pixels.exif.directories import MOST_BYTES
from tools.fuzz.target import ACCEPTED

WORDS = (b"Exif\0\0", b"eXIf", b"pHYs", b"EXIF", b"JFIF\0", b"II*\0", b"MM\0*", b"\x87\x69", b"\x88\x25", b"\xff\xe1")


@cache
def seeds() -> tuple[bytes, ...]:
    """A block as it is, and small files with it."""
    exif = Image.Exif()
    exif[0x010E], exif[0x0112], exif[0x011A] = "a lake", 6, 300.0
    exif.get_ifd(0x8769)[0x829A] = 0.02
    exif.get_ifd(0x8825)[1] = "N"
    files = [exif.tobytes().removeprefix(b"Exif\0\0")]
    for form in ("JPEG", "PNG", "WEBP", "TIFF"):
        out = io.BytesIO()
        Image.new("RGB", (2, 2)).save(out, form, exif=exif, dpi=(300, 300))
        files.append(out.getvalue())
    return tuple(files)


def check_of_exif(data: bytes) -> str:
    """Nothing may be raised, and what is made is made of itself again."""
    found = metadata_of(data)
    assert found.dpi is None or 1 <= found.dpi <= 65_535
    made = rewritten(found.exif, keep_location=True)
    assert len(made) <= MOST_BYTES + 100
    assert rewritten(made, keep_location=True) == made
    assert len(rewritten(found.exif)) <= len(made)
    return ACCEPTED if made else "nothing is left"
