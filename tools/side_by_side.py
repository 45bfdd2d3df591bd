"""What does superres-x4 do to a photo? Draws it enlarged four times, by bicubic interpolation and by superres-x4.

    python tools/side_by_side.py IN OUT

The picture in the README was made with

    python tools/side_by_side.py src/penstock/models/photo.jpg \\
        docs/images/superres-side-by-side.jpg --crop 50,26,144,120
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by onnxruntime when it is imported

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageFont

MODELS = Path(__file__).parents[1] / "src" / "penstock" / "weights"
SCALE = 4
GAP_PX = 8
MARGIN_PX = 10
LABEL_PX = 22
JPEG_QUALITY = 88
INK, PAPER = "#1f2328", "#ffffff"


def main() -> None:
    options = arguments()
    source = Image.open(options.source).convert("RGB")
    upscaled = Image.open(options.upscaled) if options.upscaled else upscale(source, options.model)
    bicubic = source.resize(upscaled.size, Image.Resampling.BICUBIC)
    left, top, width, height = (SCALE * n for n in options.crop or (0, 0, *source.size))
    box = (left, top, left + width, top + height)
    panels = {
        f"bicubic x{SCALE}": bicubic.crop(box),
        f"superres-x4 ({options.model})": upscaled.crop(box),
    }
    draw(panels).save(options.out, quality=JPEG_QUALITY, optimize=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A photo enlarged four times: by bicubic, and by superres-x4")
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--upscaled", type=Path, metavar="FILE", help="show this x4 image instead of running the model")
    parser.add_argument("--model", choices=("general", "clean"), default="general")
    parser.add_argument(
        "--crop", type=crop, metavar="LEFT,TOP,WIDTH,HEIGHT", help="part of the photo to show, in its pixels"
    )
    return parser.parse_args()


def crop(text: str) -> tuple[int, int, int, int]:
    left, top, width, height = map(int, text.split(","))
    return left, top, width, height


def upscale(source: Image.Image, model: str) -> Image.Image:
    path = MODELS / f"superres-x4.{model}.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (upscaled,) = session.run(["upscaled"], {"image": np.asarray(source)[None]})
    return Image.fromarray(upscaled[0])


def draw(panels: dict[str, Image.Image]) -> Image.Image:
    """Returns the panels in a row, with a caption above each."""
    width, height = next(iter(panels.values())).size
    caption = LABEL_PX + 2 * MARGIN_PX
    sheet = Image.new("RGB", (len(panels) * (width + GAP_PX) - GAP_PX, height + caption), PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(LABEL_PX)
    for index, (label, panel) in enumerate(panels.items()):
        left = index * (width + GAP_PX)
        sheet.paste(panel, (left, caption))
        pen.text((left, caption // 2), label, INK, font, anchor="lm")
    return sheet


if __name__ == "__main__":
    main()
