"""`python -m tools.variants.sheet OUT`: images of five kinds, enlarged by bicubic and by superres-x4, side by side.

Each goes through the server's own code as a file, from the bytes to the PNG.
"""

from __future__ import annotations

import argparse
import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from penstock.conformance.local_model import LocalModel, loaded
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.pixels.decoding import UNBOUNDED, decode
from penstock.settings import Settings
from penstock.worker.devices import cpu

from .inputs import Input, inputs
from .peers import bicubic
from .photos import CACHE

WAYS = {
    "general": SuperresParams(),
    "general, denoise 0.5": SuperresParams(denoise=0.5),
    "clean": SuperresParams(variant="clean"),
    "best": SuperresParams(variant="best"),
}
PANEL_PX, GAP_PX, LABEL_PX, LINE_PX = 416, 8, 20, 34
SQUARE_PX, LIGHT, DARK = 26, "#ffffff", "#d0d4d9"
INK, PAPER = "#1f2328", "#ffffff"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.variants.sheet", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="the sheet: .jpg, .png, …")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="keeps the packages [%(default)s]")
    options = parser.parse_args()
    rows = asyncio.run(enlarged(inputs(options.cache)))
    drawn(rows).save(options.out, quality=85, optimize=True)


async def enlarged(given: list[Input]) -> dict[str, list[Image.Image]]:
    """Returns the panels of each row, bicubic first."""
    async with loaded(SuperResolution, Settings(), cpu()) as model:
        return {one.title: [before(one), *[await after(model, one, way) for way in WAYS.values()]] for one in given}


def before(one: Input) -> Image.Image:
    """Returns the image upright and in sRGB, its transparency on squares, and then enlarged."""
    picture = decode(one.file, UNBOUNDED)
    panel = Image.fromarray(bicubic(picture.rgb))
    if picture.alpha is not None:
        panel.putalpha(Image.fromarray(picture.alpha).resize(panel.size, Image.Resampling.BICUBIC))
    return on_squares(panel)


async def after(model: LocalModel, one: Input, way: SuperresParams) -> Image.Image:
    run = await model.run(one.file, way)
    return on_squares(Image.open(io.BytesIO(run.files[0].content)))


def on_squares(panel: Image.Image) -> Image.Image:
    """Returns the panel without transparency, which shows squares in two greys."""
    if "A" not in panel.getbands():
        return panel.convert("RGB")
    ground = Image.new("RGB", panel.size, LIGHT)
    pen = ImageDraw.Draw(ground)
    for left in range(0, panel.width, SQUARE_PX):
        for top in range(left % (2 * SQUARE_PX), panel.height, 2 * SQUARE_PX):
            pen.rectangle((left, top, left + SQUARE_PX - 1, top + SQUARE_PX - 1), DARK)
    ground.paste(panel, mask=panel.getchannel("A"))
    return ground


def drawn(rows: dict[str, list[Image.Image]]) -> Image.Image:
    """Returns the sheet: above each row what it shows, and above each panel who has enlarged it."""
    step = PANEL_PX + GAP_PX
    height = len(rows) * (step + 2 * LINE_PX)
    sheet = Image.new("RGB", ((len(WAYS) + 1) * step - GAP_PX, height), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(LABEL_PX)
    for number, (title, panels) in enumerate(rows.items()):
        top = number * (step + 2 * LINE_PX)
        pen.text((0, top + LINE_PX // 2), title, INK, font, anchor="lm", stroke_width=0.4)
        for left, (name, panel) in zip(range(0, sheet.width, step), named(panels), strict=True):
            pen.text((left, top + LINE_PX + LINE_PX // 2), name, INK, font, anchor="lm")
            sheet.paste(panel, (left, top + 2 * LINE_PX))
    return sheet


def named(panels: list[Image.Image]) -> Iterator[tuple[str, Image.Image]]:
    return zip(("bicubic", *WAYS), panels, strict=True)


if __name__ == "__main__":
    main()
