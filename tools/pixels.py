"""How many pixels a second can one core cut into tiles, and take in as a result?

    python -m tools.pixels

It is what a worker does beside a GPU for superres-x4: tiles of 512 × 512 of a photo are written into the array of a
batch of 8, and their results, in memory that no cache holds, into the canvas. The time is that of the thread.
"""

import time
from collections.abc import Callable

import numpy as np

from penstock.bench.images import mirrored
from penstock.models.superres import SuperResolution
from penstock.models.tiling import Ladder, TiledImage

SIDE, BATCH, SCALE, OVERLAP = 512, 8, 4, 32
REPEATS = 5


def main() -> None:
    """Prints both figures, the best of REPEATS."""
    photo = mirrored(2048, 1536).rgb
    work = TiledImage(photo, Ladder(((SIDE, SIDE),), OVERLAP), scale=SCALE, lane="general", context=None)
    batch = np.empty((BATCH, *work.shape), work.dtype)
    results = np.random.default_rng(0).integers(0, 256, (BATCH, SCALE * SIDE, SCALE * SIDE, 3), np.uint8)

    def cut() -> None:
        for index, place in enumerate(batch):
            work.write_tile(index, place)

    def take_in() -> None:
        for index, pixels in enumerate(results):
            work.accept(index, (pixels, 0.0))

    megapixels = BATCH * SIDE**2 / 1e6
    print(f"{SuperResolution.name}, {BATCH} tiles of {SIDE} × {SIDE}, MP a second and core")
    print(f"cut into a batch: {megapixels / best_s(cut):.0f} of input")
    print(f"taken in:         {megapixels * SCALE**2 / best_s(take_in):.0f} of output")


def best_s(work: Callable[[], None]) -> float:
    """Returns the least CPU seconds of this thread."""
    taken = []
    for _ in range(REPEATS):
        started = time.thread_time()
        work()
        taken.append(time.thread_time() - started)
    return min(taken)


if __name__ == "__main__":
    main()
