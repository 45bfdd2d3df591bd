"""How much faster are the codecs than Pillow's, on a real result of superres-x4?

    python -m tools.codecs

A part of the bundled photo goes through the network, and its result of 2 MP is made twice: with Pillow, at its fastest
level of PNG with run lengths, and with the code of the server. The first row is the encoding alone, the second all that
a core does for such a task beside the network. Times are those of one core, the best of REPEATS, so that other
processes on the machine disturb them little.
"""

import argparse
import io
import time
from collections.abc import Callable
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from penstock.bench.images import mirrored
from penstock.core.request import OutputOptions
from penstock.models import load_runners
from penstock.pixels.encoding import encode
from penstock.pixels.picture import Picture
from penstock.settings import ModelSettings
from penstock.worker.devices import cpu
from tools.stages import loaded

WIDTH, HEIGHT = 408, 306
REPEATS = 9
PNG = OutputOptions()
Z_RLE = 3
"""The deflate strategy with this name in zlib.h."""


def main() -> None:
    """Runs the measurements and prints the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    load_runners(ModelSettings())
    runner: Any = loaded("superres-x4", cpu())
    source = encode(mirrored(WIDTH, HEIGHT), OutputOptions(format="jpeg"))
    work = runner.prepare(source, runner.params())
    outputs = [runner.infer(work.tile(index)[None], work)[0] for index in range(work.count)]
    joined(work, outputs)
    result = Picture(work.canvas.pixels)

    def ours() -> bytes:
        done = joined(runner.prepare(source, runner.params()), outputs)
        return bytes(runner.postprocess(done, runner.params(), PNG).file)

    def pillows() -> bytes:
        return pillows_png(Image.fromarray(joined(runner.prepare(source, runner.params()), outputs).canvas.pixels))

    image, megapixels = result.pillow(), result.rgb.size / 3e6
    table = Table(title=f"{megapixels:.1f} MP of a result", title_justify="left", box=None, pad_edge=False)
    for name in ("", "Pillow", "here", "times as fast", "bytes"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("PNG", *compared(megapixels, lambda: pillows_png(image), lambda: encode(result, PNG)))
    table.add_row("decoded, joined, PNG", *compared(megapixels, pillows, ours))
    Console(width=110).print(table)


def joined(work: Any, outputs: list[Any]) -> Any:
    """Returns the work with the outputs of its tiles."""
    for index, output in enumerate(outputs):
        work.accept(index, output)
    return work


def pillows_png(image: Image.Image) -> bytes:
    """Returns the file that Pillow writes fastest."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1, compress_type=Z_RLE)
    return out.getvalue()


def compared(megapixels: float, theirs: Callable[[], bytes], ours: Callable[[], bytes]) -> tuple[str, ...]:
    """Returns megapixels a second of both, and their ratios in time and bytes."""
    (their_s, their_file), (our_s, our_file) = best(theirs), best(ours)
    rates = (f"{megapixels / seconds:.1f} MP/s" for seconds in (their_s, our_s))
    return (*rates, f"{their_s / our_s:.2f} ×", f"{len(our_file) / len(their_file) - 1:+.1%}")


def best(work: Callable[[], bytes]) -> tuple[float, bytes]:
    """Returns the shortest time of a core, in seconds, and the file."""
    times = []
    for _ in range(REPEATS):
        started = time.thread_time()
        file = work()
        times.append(time.thread_time() - started)
    return min(times), file


if __name__ == "__main__":
    main()
