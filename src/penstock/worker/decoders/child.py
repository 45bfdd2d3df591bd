"""A process that decodes images, one after the other, and can do nothing else: see `confinement`.

`python -m penstock.worker.decoders.child SOCKET MEMORY_BYTES`. It ends when the other end of the socket is closed.
"""

import ctypes
import io
import mmap
import os
import signal
import socket
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from penstock.errors import ImageDecodeFailed
from penstock.pixels.decoding import decode_to
from penstock.pixels.picture import PixelForm
from penstock.worker.decoders.confinement import confine
from penstock.worker.decoders.exchange import FAULTS, KEPT_BYTES, MOST_MESSAGE_BYTES, Decoded, DecodeOutcome, Job

PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
"""Imported here, since Pillow imports them with the first image, when no file can be opened any more."""


DEEP_TYPES = {2: 3, 4: 2, 6: 4}
"""Colour types of PNG that may have 16 bits, and their channels: RGB, grey with alpha, RGB with alpha."""
AVIF = Path(__file__).with_name("example.avif")
"""An image of 16 x 8 pixels: to write one here would take longer than all others together."""

_libc = ctypes.CDLL(None)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
FAILED = ctypes.c_void_p(-1).value
"""What mmap returns when it fails."""


class MappedFile:
    """The file that is mapped here, if any, and its `bytes`."""

    # The module `mmap` asks the kernel for more than a confined process may.

    def __init__(self) -> None:
        self.bytes = memoryview(b"")
        self._address = 0

    def take(self, file: int, size: int) -> None:
        """Map this file in place of the one before, and close its number. Raises MemoryError."""
        self.drop()
        address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, file, 0)
        os.close(file)
        if address in (None, FAILED):
            raise MemoryError
        self._address = address
        self.bytes = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")

    def drop(self) -> None:
        """Map none."""
        size, self.bytes = len(self.bytes), memoryview(b"")
        if size:
            _libc.munmap(self._address, size)


def serve(line: socket.socket) -> None:
    """Decode what comes until nothing more can come."""
    mapped = MappedFile()
    while True:
        message, files, _, _ = socket.recv_fds(line, MOST_MESSAGE_BYTES, 1)
        if not message:
            return
        line.send(_decode(Job.of(message), files, mapped).packed())


def _decode(job: Job, files: list[int], mapped: MappedFile) -> Decoded:
    try:
        if files:
            mapped.take(files[0], job.file_size)
        data = bytes(mapped.bytes[job.at : job.at + job.size])
        return Decoded(DecodeOutcome.DECODED, *decode_to(data, job.form, mapped.bytes, job.wanted))
    except MemoryError:
        return Decoded(DecodeOutcome.OUT_OF_MEMORY)
    except ImageDecodeFailed as error:
        return Decoded(_outcome_of(error))
    finally:
        if job.file_size > KEPT_BYTES:
            mapped.drop()


def _outcome_of(error: ImageDecodeFailed) -> DecodeOutcome:
    if isinstance(error.__cause__, MemoryError):
        return DecodeOutcome.OUT_OF_MEMORY
    outcomes = (outcome for outcome in DecodeOutcome if FAULTS.get(outcome) == error.detail)
    return next(outcomes, DecodeOutcome.DAMAGED)


def _examples() -> Iterator[tuple[str, bytes]]:
    """An image of each kind, so that whatever is made or imported once for a kind is there."""
    profile, turned = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), Image.Exif()
    turned[0x0112] = 6
    signalled = PngImagePlugin.PngInfo()
    signalled.add(b"cICP", bytes([9, 16, 0, 1]))
    kinds: tuple[tuple[str, str, dict[str, object]], ...] = (
        ("JPEG", "RGB", {"icc_profile": profile, "exif": turned, "progressive": True}),
        ("JPEG", "CMYK", {}),
        ("MPO", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]}),
        ("PNG", "P", {"transparency": 0, "icc_profile": profile, "exif": turned}),
        ("PNG", "I;16", {}),
        ("PNG", "I;16", {"pnginfo": signalled, "exif": turned}),
        ("PNG", "RGB", {"pnginfo": signalled}),
        ("PNG", "L", {"icc_profile": profile}),
        ("PNG", "LA", {}),
        ("WEBP", "RGBA", {"icc_profile": profile, "exif": turned}),
        ("GIF", "P", {"transparency": 0}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {"exif": turned}),
        ("TIFF", "RGB", {"compression": "tiff_lzw", "icc_profile": profile, "exif": turned}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "1", {"compression": "group4"}),
        ("TIFF", "I;16", {}),
    )
    yield "avif", AVIF.read_bytes()
    for form, mode, options in kinds:
        out = io.BytesIO()
        Image.new(mode, (16, 8)).save(out, form, **options)
        yield "jpeg" if form == "MPO" else form.lower(), out.getvalue()
    for kind, channels in DEEP_TYPES.items():  # Pillow writes none of these
        rows = zlib.compress(bytes(8 * (1 + 16 * 2 * channels)))
        header = struct.pack(">IIBBBBB", 16, 8, 16, kind, 0, 0, 0)
        chunks = (b"IHDR", header), (b"iCCP", b"p\0\0" + zlib.compress(profile)), (b"IDAT", rows), (b"IEND", b"")
        with io.BytesIO() as out:
            out.write(b"\x89PNG\r\n\x1a\n")
            for chunk in chunks:
                PngImagePlugin.putchunk(out, *chunk)
            yield "png", out.getvalue()


def _rehearse() -> None:
    memory = memoryview(bytearray(2**17))
    for form, data in _examples():
        for wanted in (PixelForm(), PixelForm(is_deep=True), PixelForm(keeps_colours=True)):
            decode_to(data, form, memory, wanted)
        if form == "tiff":  # of a broken one libtiff writes to the log
            continue
        with suppress(ImageDecodeFailed):
            decode_to(data[: len(data) // 2], form, memory)


def main() -> None:
    """Get ready, give up every right, say what could not be given up, and serve."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group, while its worker still has tasks to finish
        signal.signal(stop, signal.SIG_IGN)
    line = socket.socket(fileno=int(sys.argv[1]))
    _rehearse()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # nothing that is decoded may speak in the log of the worker
        os.dup2(null, standard)
    os.close(null)
    line.send(",".join(confine(int(sys.argv[2]))).encode() or b"-")
    serve(line)


if __name__ == "__main__":
    main()
