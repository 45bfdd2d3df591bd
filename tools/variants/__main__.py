"""`python -m tools.variants`: how near each variant of superres-x4 comes to real photos, beside others.

The middle of each photo is reduced to a quarter, damaged, and enlarged again. A cell has PSNR, SSIM, LPIPS and GMSD,
each the mean over the photos; of the last two less is better.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from penstock.models.grain import with_grain
from penstock.models.onnxruntime.session import Session, manifest
from penstock.worker.devices import cpu

from .damage import DAMAGE, Pixels
from .lpips import Lpips
from .measures import Measures, measured
from .peers import SCALE, Enlarge, peers
from .photos import CACHE, PHOTOS, Photo

LARGE_PX = 384
VARIANTS = ("general", "clean", "best")

Pair = tuple[Pixels, Pixels]


def main() -> None:
    options = arguments()
    networks = {variant: network(variant) for variant in {*options.variants, "best"}}
    lpips = Lpips(options.cache)
    pairs = [pair(photo, options.cache) for photo in PHOTOS]
    columns = [[(large, DAMAGE[damage](small)) for large, small in pairs] for damage in options.damage]
    print(f"| enlarged by | {' | '.join(options.damage)} |\n|{' --- |' * (len(columns) + 1)}")
    for name, peer in {} if options.alone else peers(options.cache, networks["best"]).items():
        row(name, [cell(measured(large, peer(small), lpips) for large, small in column) for column in columns])
    for variant in options.variants:
        made = [[networks[variant](small) for _, small in column] for column in columns]
        for denoise in options.denoise:
            row(f"`{variant}`, `denoise` {denoise:g}", [
                cell(
                    measured(large, with_grain(small, out, 1 - denoise), lpips)
                    for (large, small), out in zip(column, outs, strict=True)
                )
                for column, outs in zip(columns, made, strict=True)
            ])  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.variants", description=__doc__)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, metavar="NAME", help="[all]")
    parser.add_argument("--denoise", nargs="+", type=float, default=[1.0, 0.5, 0.0], metavar="X", help="[%(default)s]")
    parser.add_argument("--damage", nargs="+", choices=DAMAGE, default=list(DAMAGE), metavar="NAME", help="[all]")
    parser.add_argument("--alone", action="store_true", help="leave out the others")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="keeps the packages [%(default)s]")
    return parser.parse_args()


def network(variant: str) -> Enlarge:
    """Returns the network of a variant, on a whole image."""
    return partial(whole, Session(manifest()["superres-x4", variant], cpu()))


def whole(session: Session, image: Pixels) -> Pixels:
    upscaled: Pixels = session.run(image[None])[0][0]
    return upscaled


def row(name: str, cells: list[str]) -> None:
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def cell(values: Iterable[Measures]) -> str:
    psnr, *others = np.mean(list(values), axis=0)
    return ", ".join([f"{psnr:.1f}", *(f"{value:.3f}".lstrip("0") for value in others)])


def pair(photo: Photo, cache: Path) -> Pair:
    """The middle of a photo, and the same reduced."""
    image = photo.image(cache)
    width, height = (min(side, LARGE_PX) // SCALE * SCALE for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    large = image.crop((left, top, left + width, top + height))
    return np.asarray(large), np.asarray(large.resize((width // SCALE, height // SCALE), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
