"""How much memory does one very large task take, compared with what its worker sets aside for it?

    python -m tools.memory [--megapixels 100] [--format png] [--plot FILE.png]

Decodes a real photo of that size, cuts it, joins outputs and encodes the result with the server's own code: a PNG while
its tiles come, as a worker does, any other format at the end. The network is left out: on a CPU it would run for hours,
and it needs memory for one batch only. Instead, each output is its tile with every pixel four times as wide and high.
The peak is that of the process (VmHWM), less what it held before; it should stay below the prediction that is printed
beside it. The plot has a line for a PNG and one for a JPEG, each of a process of its own.
"""

import argparse
import io
import os
import time
from concurrent.futures import ProcessPoolExecutor
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from penstock.core.output import Format, OutputOptions
from penstock.models.base import registry
from penstock.models.products import FileWriter
from penstock.models.superres import SuperresParams
from penstock.settings import LimitSettings
from penstock.worker.devices import cpu

FORMATS: dict[Format, str] = {"png": "PNG, written while its tiles come", "jpeg": "JPEG, encoded at the end"}

Line = list[tuple[float, float]]
"""Moments, each with what was held then."""

PHOTO = Path(__file__).parents[1] / "src/penstock/models/photo.jpg"


def main() -> None:
    """Runs the task, or both, and prints the peak beside the prediction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=100)
    parser.add_argument("--format", choices=FORMATS, default="png")
    parser.add_argument("--plot", type=Path, help="draw the memory over the time to this file")
    options = parser.parse_args()
    if options.plot is None:
        run(options.megapixels, options.format)
        return
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        lines = {form: processes.submit(sampled, options.megapixels, form).result() for form in FORMATS}
    plot(lines, options.plot)


def sampled(megapixels: float, form: Format) -> Line:
    """Runs the task, and returns seconds and gigabytes, above those of before, all the while."""
    line: Line = []
    started, before, is_over = time.perf_counter(), resident(), Event()

    def look() -> None:
        while not is_over.wait(0.05):
            line.append((time.perf_counter() - started, (resident() - before) / 1e9))

    looking = Thread(target=look)
    looking.start()
    try:
        run(megapixels, form)
    finally:
        is_over.set()
        looking.join()
    return line


def plot(lines: dict[Format, Line], file: Path) -> None:
    """Draws the memory of both formats over the time."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for form, line in lines.items():
        axes.plot(*zip(*line, strict=True), label=FORMATS[form])
    axes.set(xlabel="seconds", ylabel="GB of memory", xlim=0, ylim=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    figure.savefig(file, dpi=150)


def run(megapixels: float, form: Format) -> None:
    """Runs the task and prints what it took."""
    source = photo(round((megapixels * 1e6) ** 0.5))
    runner: Any = registry()["superres-x4"](LimitSettings(max_image_megapixels=ceil(megapixels) + 1))
    runner.load_model(cpu(1))
    params, output = SuperresParams(), OutputOptions(format=form, quality=90)
    predicted = runner.memory_for(source, params, output)
    before = resident()
    forget_peak()
    work: Any = timed("decoded", lambda: runner.prepare(source, params))
    stream = runner.stream(work, params, output)
    if stream is None:
        timed("joined", lambda: draw(work))
        size = len(timed("encoded", lambda: runner.postprocess(work, params, output)).file)
    else:
        size = timed("written", lambda: written(work, stream.writer))
    width, height = work.size
    print(f"{megapixels:g} MP ({len(source) / 1e6:.0f} MB) to {width} x {height} px, {size / 1e9:.2f} GB")
    print(f"  predicted  {predicted / 1e9:.2f} GB")
    print(f"  peak       {(peak() - before) / 1e9:.2f} GB = {(peak() - before) / (width * height):.2f} bytes a pixel")


def photo(side: int) -> bytes:
    """Returns a square photo as a JPEG."""
    out = io.BytesIO()
    Image.open(PHOTO).convert("RGB").resize((side, side), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def draw(work: Any) -> None:
    """Enlarges every tile without a network and joins the results."""
    for index in range(work.count):
        accept(work, index)


def written(work: Any, writer: FileWriter) -> int:
    """Enlarges every tile, and writes the file meanwhile, whose bytes are gone when they are sent; returns its size."""
    size = 0
    for index in range(work.count):
        assert index < work.open, "the rows of the canvas are taken, and its tiles wait"
        accept(work, index)
        while writer.is_ready:
            size += len(writer.write())
    return size + len(writer.finish())


def accept(work: Any, index: int) -> None:
    """Enlarges one tile and joins it."""
    enlarged = np.repeat(np.repeat(work.tile(index), 4, axis=0), 4, axis=1)
    work.accept(index, (enlarged, 0.0))


def timed(name: str, step: Any) -> Any:
    """Returns the result of the step and prints how long it took."""
    started = time.perf_counter()
    result = step()
    print(f"{name:8} {time.perf_counter() - started:7.1f} s, {resident() / 1e9:.2f} GB resident", flush=True)
    return result


def resident() -> int:
    """Returns the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def forget_peak() -> None:
    """Resets the peak (VmHWM) to the present size; the 5 is documented in proc_pid_clear_refs(5)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Returns the largest resident memory, in bytes, since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
