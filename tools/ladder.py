"""Which shapes of tiles should a GPU have, so that few pixels are computed in vain?

    python -m tools.ladder [--most 16] [--step 32]

Each shape of a tile is warmed up in every size of batch and for every network, and tiles of different shapes do not run
together: a GPU should have few. The search adds the shape, or the two of an upright and a lying one, that saves most
for each shape, and then replaces those that a better one can replace. It prints each ladder with the pixels that are
computed for each that an image has, over all images together, for the mean image, and for the worst.
"""

import argparse
from collections.abc import Iterable, Sequence
from itertools import combinations
from random import Random

import numpy as np
from numpy.typing import NDArray

from penstock.core.device import GPU_SHAPES
from penstock.models.tiling import Ladder

Size = tuple[int, int]

RATIOS = ((1, 1), (5, 4), (4, 3), (3, 2), (16, 9))
MEGAPIXELS = (0.1, 10)
COMMON = (
    *((320, 240), (400, 300), (480, 360), (640, 480), (736, 552), (800, 600), (1024, 768), (1280, 960), (1600, 1200)),
    *((2048, 1536), (3264, 2448), (500, 333), (600, 400), (768, 512), (1024, 683), (1200, 800), (1500, 1000)),
    *((1280, 720), (1920, 1080), (2560, 1440), (500, 375), (1350, 1080)),
    *((512, 512), (640, 640), (768, 768), (1024, 1024), (1080, 1080), (2048, 2048)),
)
SMALLEST = ((128, 128), (256, 256))
"""For images below MEGAPIXELS: a batch of thumbnails, or one."""

SIDES = (128, 1024)
OVERLAPS = (32, 16)


def mixed(count: int, seed: int) -> list[Size]:
    """Returns (height, width) of images of 0.1 to 10 MP with usual ratios of the sides, lying and upright; there are as
    many between 0.1 and 1 MP as between 1 and 10."""
    random = Random(seed)
    low, high = MEGAPIXELS
    sizes = []
    for _ in range(count):
        long, short = random.choice(RATIOS)
        side = (1e6 * low * (high / low) ** random.random() / (long * short)) ** 0.5
        size = (round(short * side), round(long * side))
        sizes.append(size if random.random() < 0.5 else size[::-1])
    return sizes


def computed(shapes: Iterable[Size], image: Size, overlap: int = 32) -> float:
    """Returns how many pixels are computed for each pixel of an image."""
    return Ladder(tuple(shapes), overlap).plan(*image).area / (image[0] * image[1])


def main() -> None:
    """Prints the ladder that ships, and the ladders that the search finds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=16, metavar="N", help="the largest number of shapes [16]")
    parser.add_argument("--step", type=int, default=32, metavar="PX", help="sides are multiples of this [32]")
    options = parser.parse_args()
    print(f"shipped: {described(GPU_SHAPES)}")
    for shapes in search(options.most, options.step):
        print(described(shapes))


def described(shapes: Sequence[Size]) -> str:
    """Returns a line about a ladder and the 150 images of the first seed."""
    images = mixed(150, seed=0)
    each = [computed(shapes, image) for image in images]
    pixels = [height * width for height, width in images]
    together = np.average(each, weights=pixels)
    texts = " ".join(f"{h}x{w}" for h, w in shapes)
    return f"{len(shapes):2} shapes, {together:.3f} together, {np.mean(each):.3f} mean, {max(each):.2f} worst: {texts}"


def search(most: int, step: int) -> Iterable[list[Size]]:
    """Yields ladders of more and more shapes."""
    sides = range(SIDES[0], SIDES[1] + 1, step)
    candidates = [(low, high) for low in sides for high in sides if low <= high <= 2 * low]
    waste = Waste([*mixed(1500, seed=1), *12 * [*COMMON, *(size[::-1] for size in COMMON)]])
    chosen: list[Size] = []
    for count in range(1, most - len(SMALLEST) + 1):
        chosen = filled(chosen, count, candidates, waste)
        while (better := improved(chosen, count, candidates, waste)) is not None:
            chosen = better
        yield both_ways([*SMALLEST, *chosen])


def both_ways(sizes: Iterable[Size]) -> list[Size]:
    """Returns each size lying and upright, sorted."""
    return sorted({way for size in sizes for way in (size, size[::-1])})


def filled(chosen: list[Size], count: int, candidates: list[Size], waste: "Waste") -> list[Size]:
    """Returns the ladder with the sizes that save most for each shape, until there are `count` shapes."""
    while room := count - len(both_ways(chosen)):
        before = waste.of(chosen)
        fitting = [c for c in candidates if len(both_ways([c])) <= room]
        best = min(fitting, key=lambda c: (waste.of([*chosen, c]) - before) / len(both_ways([c])))
        if best in chosen:
            break
        chosen = [*chosen, best]
    return chosen


def improved(chosen: list[Size], count: int, candidates: list[Size], waste: "Waste") -> list[Size] | None:
    """Returns a better ladder with one or two of the sizes replaced, if there is one."""
    for few in (1, 2):
        for kept in combinations(chosen, max(0, len(chosen) - few)):
            other = filled(list(kept), count, candidates, waste)
            if waste.of(other) < waste.of(chosen) - 1e-6:
                return other
    return None


class Waste:
    """What ladders compute for a number of images; how many tiles of a shape each image takes is counted once."""

    def __init__(self, images: Sequence[Size]) -> None:
        self._lengths = np.array(images).T  # heights, widths
        self._needed = self._lengths.prod(axis=0)
        self._areas: dict[tuple[Size, int], NDArray[np.int64]] = {}

    def of(self, sizes: Iterable[Size]) -> float:
        """Returns the sum of what is computed for each pixel, over all images together and for the mean image."""
        shapes = both_ways([*SMALLEST, *sizes])
        total = 0.0
        for overlap in OVERLAPS:
            least = np.min([self._area(shape, overlap) for shape in shapes], axis=0)
            total += least.sum() / self._needed.sum() + (least / self._needed).mean()
        return total

    def _area(self, shape: Size, overlap: int) -> NDArray[np.int64]:
        if (shape, overlap) not in self._areas:
            down, across = (tiles(*pair, overlap) for pair in zip(self._lengths, shape, strict=True))
            self._areas[shape, overlap] = shape[0] * shape[1] * down * across
        return self._areas[shape, overlap]


def tiles(lengths: NDArray[np.int64], side: int, overlap: int) -> NDArray[np.int64]:
    """Returns the number of tiles along an axis, as `models.tiling` lays them out."""
    return np.where(lengths <= side, 1, 1 - (side - lengths) // (side - 2 * overlap))


if __name__ == "__main__":
    main()
