"""`python -m tools.variants`: how near each variant of superres-x4 comes to real photos, beside bicubic.

Each photo of scikit-image is reduced to a quarter, damaged, and enlarged again. PSNR counts colours, SSIM and GMSD
(Xue 2014; lower is better) the brightness, all without the outermost 4 pixels.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import convolve  # type: ignore[import-untyped]
from skimage.metrics import structural_similarity

from penstock.models.grain import with_grain
from penstock.models.onnxruntime.session import Session, manifest
from penstock.worker.devices import cpu

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
LARGE_PX, SCALE, SHAVE_PX = 512, 4, 4
BICUBIC = Image.Resampling.BICUBIC
LUMINANCE = np.array([65.481, 128.553, 24.966]) / 255

Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.variants", description=__doc__)
    parser.add_argument("--variants", nargs="+", default=["general", "clean"], metavar="NAME", help="[%(default)s]")
    parser.add_argument("--denoise", nargs="+", type=float, default=[1.0, 0.5, 0.0], metavar="X", help="[%(default)s]")
    parser.add_argument("--damage", nargs="+", choices=DAMAGE, default=list(DAMAGE))
    options = parser.parse_args()
    sessions = {variant: Session(manifest()["superres-x4", variant], cpu()) for variant in options.variants}
    print("| input | enlarged by | denoise | PSNR | SSIM | GMSD |\n| --- | --- | --- | --- | --- | --- |")
    for damage in options.damage:
        pairs = [(large, DAMAGE[damage](small)) for large, small in map(pair, PHOTOS)]
        row(damage, "bicubic", "", [measured(large, enlarged(small)) for large, small in pairs])
        for variant, session in sessions.items():
            made = [session.run(small[None])[0][0] for _, small in pairs]
            for denoise in options.denoise:
                finished = [with_grain(small, out, 1 - denoise) for (_, small), out in zip(pairs, made, strict=True)]
                values = [measured(large, out) for (large, _), out in zip(pairs, finished, strict=True)]
                row(damage, variant, f"{denoise:g}", values)


def row(damage: str, by: str, denoise: str, values: list[Values]) -> None:
    psnr, ssim, gmsd = np.mean(values, axis=0)
    print(f"| {damage} | {by} | {denoise} | {psnr:.2f} | {ssim:.4f} | {gmsd:.4f} |", flush=True)


def pair(name: str) -> tuple[Pixels, Pixels]:
    """The middle of a photo, and the same reduced."""
    photo = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
    width, height = (min(side, LARGE_PX) // SCALE * SCALE for side in photo.size)
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    large = photo.crop((left, top, left + width, top + height))
    return np.asarray(large), np.asarray(large.resize((width // SCALE, height // SCALE), BICUBIC))


def enlarged(small: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(small).resize((small.shape[1] * SCALE, small.shape[0] * SCALE), BICUBIC))


def noisy(image: Pixels, *, sigma: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    return np.rint(image + noise).clip(0, 255).astype(np.uint8)


def as_jpeg(image: Pixels, *, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


DAMAGE: dict[str, Callable[[Pixels], Pixels]] = {
    "clean": lambda image: image,
    "noise of 3 levels": lambda image: noisy(image, sigma=3),
    "noise of 10 levels": lambda image: noisy(image, sigma=10),
    "JPEG of quality 75": lambda image: as_jpeg(image, quality=75),
}


def measured(large: Pixels, made: Pixels) -> Values:
    """PSNR in dB, SSIM and GMSD."""
    wanted, got = (image[SHAVE_PX:-SHAVE_PX, SHAVE_PX:-SHAVE_PX].astype(np.float64) for image in (large, made))
    light, lit = (image @ LUMINANCE + 16 for image in (wanted, got))
    psnr = 10 * np.log10(255**2 / ((wanted - got) ** 2).mean())
    ssim = structural_similarity(  # type: ignore[no-untyped-call]
        light, lit, data_range=219, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return np.array([psnr, ssim, gmsd(light, lit)])


def gmsd(one: Values, other: Values) -> float:
    """The deviation of the likeness of gradients, at half the size, with the authors' constant of 170."""
    first, second = slope(one), slope(other)
    return float(((2 * first * second + 170) / (first**2 + second**2 + 170)).std())


def slope(image: Values) -> Values:
    half = convolve(image, np.full((2, 2), 0.25))[::2, ::2]
    prewitt = np.array([[1, 0, -1]] * 3) / 3
    sizes: Values = np.hypot(convolve(half, prewitt), convolve(half, prewitt.T))
    return sizes


if __name__ == "__main__":
    main()
