"""How fast one core of this machine decodes and encodes photos."""

import time
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from penstock.bench.images import mirrored
from penstock.core.request import Format, OutputOptions
from penstock.pixels.decoding import decode
from penstock.pixels.encoding import encode

SIDE = 1024
REPEATS = 9
"""The best counts: another process may take the core meanwhile."""


class CodecRates(Struct, frozen=True, kw_only=True):
    """Megapixels a second of one core, and bytes of a result for each of its pixels."""

    decode_mp_per_s: float
    encode_mp_per_s: float
    bytes_per_px: float


def measured(result: Format, repeats: int = REPEATS) -> CodecRates:
    """The rates for JPEG in and this format out."""
    picture = mirrored(SIDE, SIDE)
    source = encode(picture, OutputOptions(format="jpeg"))
    options = OutputOptions(format=result)
    megapixels = SIDE * SIDE / 1e6
    return CodecRates(
        decode_mp_per_s=megapixels / _best_s(lambda: decode(source), repeats),
        encode_mp_per_s=megapixels / _best_s(lambda: encode(picture, options), repeats),
        bytes_per_px=len(encode(picture, options)) / SIDE**2,
    )


def stated(text: str, result: Format) -> CodecRates:
    """Rates such as `230,240`: what a core decodes and encodes, on a machine that is too busy to be measured. Raises
    ValueError for anything else than two numbers."""
    decode, encode = map(float, text.split(","))
    return replace(measured(result, repeats=1), decode_mp_per_s=decode, encode_mp_per_s=encode)


def _best_s(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)
