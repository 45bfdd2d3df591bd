"""How a network's result is best brought to another size: photos are halved, enlarged four times, and brought back.

    python -m tools.resampling [--times 2]

Prints the PSNR in dB beside the original, for each filter and for values as they are stored or in linear light. The
photos are those of scikit-image, reduced by the mean of linear light, as a camera with fewer pixels sees them.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image

from penstock.core.request import OutputOptions
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.models.tiling import TiledImage
from penstock.pixels.encoding import encode
from penstock.pixels.picture import Picture, Pixels
from penstock.settings import LimitSettings
from penstock.worker.devices import cpu

PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png", "page.png", "motorcycle_left.png")
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "Lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}
MOST = (480, 360)
"""Width and height of what is taken of a photo at most."""


def main() -> None:
    """Print one line for each photo and way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=2, help="how many times the photos are reduced")
    times: int = parser.parse_args().times
    runner = SuperResolution(LimitSettings())
    runner.load_model(cpu(2))
    for name in PHOTOS:
        photo = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
        width, height = (min(side, most) // times * times for side, most in zip(photo.size, MOST, strict=True))
        whole = np.asarray(photo)[:height, :width]
        small = resampled(whole, (width // times, height // times), Image.Resampling.BOX, in_linear_light=True)
        made = enlarged(runner, small)
        for light in (False, True):
            for word, how in FILTERS.items():
                back = resampled(made, (width, height), how, in_linear_light=light)
                print(f"{name:20} {word:8} {'linear light' if light else 'as stored':12} {psnr(back, whole):6.2f} dB")


def enlarged(runner: SuperResolution, rgb: Pixels) -> Pixels:
    """What the network `clean` makes of a photo, four times as wide and high."""
    work = runner.prepare(encode(Picture(rgb), OutputOptions()), SuperresParams(variant="clean"))
    assert isinstance(work, TiledImage)
    for index in range(work.count):
        work.accept(index, runner.infer(work.tile(index)[None], work)[0])
    return work.canvas.pixels


def resampled(rgb: Pixels, size: tuple[int, int], how: Image.Resampling, *, in_linear_light: bool) -> Pixels:
    """The photo in another size, computed in floats."""
    values = linear(rgb / 255) if in_linear_light else rgb / 255
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(values[..., channel], np.float32)).resize(size, how))
        for channel in range(3)
    ]
    made = np.stack(planes, axis=2).clip(0, 1)
    levels: Pixels = np.rint(255 * (stored(made) if in_linear_light else made)).astype(np.uint8)
    return levels


def linear(values: NDArray[Any]) -> NDArray[Any]:
    """Light of values in sRGB (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def stored(light: NDArray[Any]) -> NDArray[Any]:
    """Values in sRGB of light."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def psnr(one: Pixels, other: Pixels) -> float:
    """The peak ratio of signal to noise in dB."""
    return float(10 * np.log10(255**2 / ((one.astype(float) - other) ** 2).mean()))


if __name__ == "__main__":
    main()
