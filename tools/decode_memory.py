"""What decoding takes of memory: the peak of a decoder above what it has while idle, for each pixel.

    python -m tools.decode_memory [--megapixels 12] [--only webp]

The pixels in the memory that a decoder shares with its worker count, the bytes of the file do not. Each image goes to a
decoder of its own.
"""

import argparse
import io
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms

from penstock.bench.images import mirrored
from penstock.pixels.decoding import UNBOUNDED
from penstock.pixels.headers import probe
from penstock.worker.decoders.decoder import Decoder

MEMORY_BYTES = 4 * 1024**3
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TURNED = Image.Exif()
TURNED[0x0112] = 6
RICH = {"icc_profile": PROFILE, "exif": TURNED}

KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "RGB", RICH),
    ("JPEG", "RGB", {"progressive": True, "subsampling": 0} | RICH),
    ("JPEG", "L", {}),
    ("JPEG", "CMYK", {}),
    ("PNG", "RGB", {}),
    ("PNG", "RGB", RICH),
    ("PNG", "RGBA", {}),
    ("PNG", "RGBA", RICH),
    ("PNG", "P", {}),
    ("PNG", "L", {}),
    ("PNG", "LA", RICH),
    ("PNG", "I;16", {}),
    ("AVIF", "RGB", {"speed": 10}),
    ("AVIF", "RGBA", {"speed": 10}),
    ("AVIF", "RGB", {"speed": 10} | RICH),
    ("TIFF", "RGB", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGBA", {"compression": "tiff_deflate"} | RICH),
    ("TIFF", "I;16", {"compression": "tiff_deflate"}),
    ("TIFF", "CMYK", {}),
    ("GIF", "P", {}),
    ("GIF", "P", {"transparency": 0}),
    ("BMP", "RGB", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGB", RICH),
    ("WEBP", "RGBA", {}),
    ("WEBP", "RGBA", {"lossless": True} | RICH),
)


def peak_bytes(data: bytes) -> int:
    """The most memory that a decoder has while it decodes this image, above what it had before, without the file."""
    with closing(Decoder(MEMORY_BYTES)) as decoder:
        before = _bytes_of(decoder, "VmRSS")
        Path(f"/proc/{decoder.process_id}/clear_refs").write_text("5")  # the peak begins anew
        decoder.decode(data, probe(data, UNBOUNDED))
        return _bytes_of(decoder, "VmHWM") - before - 2 * len(data)  # in shared memory, and as bytes


def _bytes_of(decoder: Decoder, field: str) -> int:
    status = Path(f"/proc/{decoder.process_id}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _images(megapixels: float, only: str) -> Iterator[tuple[str, bytes]]:
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    photo = Image.fromarray(mirrored(width, width * 3 // 4).rgb)
    for form, mode, options in KINDS:
        if only and form.lower() != only:
            continue
        image = photo.convert("I").convert(mode) if mode == "I;16" else photo.convert(mode)
        out = io.BytesIO()
        image.save(out, form, **options)
        yield f"{form} {mode} {' '.join(options)}", out.getvalue()


def main() -> None:
    """Print bytes for each pixel, and the largest of each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--only", default="", help="a format")
    given = parser.parse_args()
    most: dict[str, float] = {}
    for name, data in _images(given.megapixels, given.only):
        header = probe(data, UNBOUNDED)
        each = peak_bytes(data) / (header.width * header.height)
        most[header.format] = max(each, most.get(header.format, 0))
        print(f"{each:5.1f}  {name}", flush=True)
    for form, each in most.items():
        print(f"{each:5.1f}  {form}, the most")


if __name__ == "__main__":
    main()
