"""Runs of a graph on the CPU, on a piece of the example photo: how large its output is, which sizes it takes, and in
which range of values it works."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.lazy_import import lazy_import
from penstock.models.declared.document import InvalidModel
from penstock.models.inspection.findings import Findings
from penstock.models.inspection.image_input import ImageInput
from penstock.models.onnxruntime.runtime import runtime
from penstock.pixels.decoding import decode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

LONGEST_MESSAGE = 300
TILED_CHANNELS = 3
SIDES = (64, 128, 256)
"""Sizes to try, one after another until the graph takes one."""
MULTIPLES = (1, 2, 4, 8, 16, 32)
RANGES = {"0-1": (255.0, 0.0), "-1-1": (127.5, 1.0), "0-255": (1.0, 0.0)}
"""Range -> the values are level / divisor - shift."""
LOCAL = frozenset({"Conv", "ConvTranspose", "DepthToSpace", "Resize", "Upsample", "PixelShuffle"})
GLOBAL = frozenset(
    {
        "GlobalAveragePool",
        "GlobalMaxPool",
        "MatMul",
        "Gemm",
        "ReduceMean",
        "InstanceNormalization",
        "LayerNormalization",
    }
)
"""Operators whose answer depends on the whole image, so that tiles change it."""


class TrialSession:
    """A session on the CPU for a few small runs. Raises InvalidModel when the runtime refuses the file."""

    def __init__(self, path: Path, image: ImageInput) -> None:
        options = runtime().SessionOptions()
        options.log_severity_level = 4
        self._image = image
        try:
            self._session = runtime().InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own classes are private
            raise InvalidModel(f"ONNX Runtime cannot load it: {plain_message(error)}") from error

    def run(self, height: int, width: int, range_: str = "0-1") -> NDArray[Any] | None:
        """The first output for a piece of the photo of this size; None where the graph does not take it."""
        divisor, shift = RANGES[range_]
        levels = _photo(height, width, self._image.channels)
        values = (levels / divisor - shift).astype(self._image.port.dtype)
        tensor = values[None] if self._image.layout == "NHWC" else values.transpose(2, 0, 1)[None]
        try:
            return np.asarray(self._session.run(None, {self._image.port.name: np.ascontiguousarray(tensor)})[0])
        except Exception:  # noqa: BLE001 - the runtime's own classes are private; a size that does not fit is an answer
            return None

    def sides_for(self, height: int, width: int) -> tuple[int, int] | None:
        """Height and width of the output for an image of this size; None where the graph does not take it."""
        output = self.run(height, width)
        if output is None or output.ndim != 4:
            return None
        sides = output.shape[2:] if self._image.layout == "NCHW" else output.shape[1:3]
        return int(sides[0]), int(sides[1])


def try_out(path: Path, image: ImageInput, operators: set[str], findings: Findings) -> None:
    """Run a graph that gives an image, and note what that shows. Raises InvalidModel when it cannot be loaded."""
    kind = findings.get("kind")
    if kind == "image-to-mask" and not image.fixed:
        _note_multiple(TrialSession(path, image), findings, scale=0, lost=0)
    if kind != "image-to-image":
        return
    trial = TrialSession(path, image)
    if image.fixed:
        _note_fixed_scale(trial, image, findings)
    else:
        _note_scale(trial, findings)
    if findings.get("kind") == "image-to-image" and "input.range" not in findings:
        _guess_range(trial, image, findings)
    if not image.fixed and image.channels == TILED_CHANNELS:
        _guess_tiles(operators, findings)


def _note_fixed_scale(trial: TrialSession, image: ImageInput, findings: Findings) -> None:
    assert_height, assert_width = image.height or 1, image.width or 1
    output = trial.run(assert_height, assert_width)
    sides = (
        () if output is None or output.ndim != 4 else output.shape[2:] if image.layout == "NCHW" else output.shape[1:3]
    )
    if not sides or sides[0] % assert_height or sides[0] // assert_height != sides[1] / assert_width:
        _fall_back(
            findings, f"an image of {assert_width}×{assert_height} px gives {'×'.join(map(str, sides)) or 'nothing'}"
        )
        return
    findings.know("output.scale", sides[0] // assert_height, "seen in a run")


def _note_scale(trial: TrialSession, findings: Findings) -> None:
    """The output of a side is `scale` times the side, less what the graph loses at its borders."""
    tried = [(side, found) for side in SIDES if (found := trial.sides_for(side, side))]
    if len(tried) < 2:
        _fall_back(findings, "it takes no image of 64, 128 or 256 px")
        return
    (first, (less, _)), (second, (more, _)) = tried[:2]
    scale, rest = divmod(more - less, second - first)
    lost = scale * first - less
    if rest or scale < 1 or lost < 0 or lost % (2 * scale):
        _fall_back(findings, f"sides of {first} and {second} px become {less} and {more}, which is no scale")
        return
    findings.know("output.scale", scale, f"seen in runs: {first} px become {less}, {second} become {more}")
    if lost:
        border = lost // (2 * scale)
        findings.know("input.border_px", border, f"seen in runs: the graph loses {border} px at each side")
        findings.guess("input.pad_value", 0, "with which level the border is filled is a choice; it shows at the edges")
    _note_multiple(trial, findings, scale=scale, lost=lost)


def _note_multiple(trial: TrialSession, findings: Findings, *, scale: int, lost: int) -> None:
    """The smallest step between sizes that the graph takes; with a scale, also of outputs that keep to it."""
    base = SIDES[0] if trial.run(SIDES[0], SIDES[0]) is not None else SIDES[1]
    for multiple in MULTIPLES:
        side = base + multiple
        output = trial.run(side, side)
        fits = output is not None and (not scale or trial.sides_for(side, side) == (scale * side - lost,) * 2)
        if fits and (scale or _keeps_size(output, side)):
            if multiple > 1:
                findings.know("input.multiple_of", multiple, f"seen in runs: a side of {base + 1} px does not fit")
            return


def _keeps_size(output: NDArray[Any] | None, side: int) -> bool:
    return output is not None and side in output.shape[1:]


def _fall_back(findings: Findings, why: str) -> None:
    findings.drop("kind", "output")
    findings.know("kind", "image-to-tensors", f"seen in runs: {why}")


def _guess_range(trial: TrialSession, image: ImageInput, findings: Findings) -> None:
    """The range in which the output looks most like the image: a network that enlarges or repairs hardly changes it."""
    side = image.height or SIDES[0]
    errors = {range_: _error(trial, image, side, range_) for range_ in RANGES}
    best = min(errors, key=errors.__getitem__)
    findings.guess(
        "input.range", best, f"in runs on a photo the output is closest to the image there ({_percents(errors)} off)"
    )
    findings.guess("output.range", best, "the same as the input's")


def _error(trial: TrialSession, image: ImageInput, side: int, range_: str) -> float:
    output = trial.run(side, image.width or side, range_)
    if output is None or output.ndim != 4 or not np.isfinite(output).all():
        return float("inf")
    divisor, shift = RANGES[range_]
    planes = output[0].astype(np.float64) if image.layout == "NCHW" else output[0].astype(np.float64).transpose(2, 0, 1)
    levels = (planes + shift) * divisor
    before = _photo(side, image.width or side, image.channels).astype(np.float64).transpose(2, 0, 1)
    return float(np.abs(_coarse(levels) - _coarse(before)).mean() / 255)


def _coarse(planes: NDArray[Any]) -> NDArray[Any]:
    """The means of 4 × 4 parts of an image, whatever its size."""
    rows = np.array_split(planes, 4, axis=1)
    return np.array([[part.mean(axis=(1, 2)) for part in np.array_split(row, 4, axis=2)] for row in rows])


def _percents(errors: dict[str, float]) -> str:
    return ", ".join(f"{range_}: {min(error, 99):.0%}" for range_, error in errors.items())


def _guess_tiles(operators: set[str], findings: Findings) -> None:
    if findings.get("kind") != "image-to-image":
        return
    if operators & GLOBAL:
        which = ", ".join(sorted(operators & GLOBAL))
        findings.guess("tiles.allowed", "discouraged", f"{which} looks at the whole image: the joints may show")
    elif operators & LOCAL:
        findings.guess("tiles.allowed", "supported", "every operator looks only at the neighbourhood of a pixel")


def _photo(height: int, width: int, channels: int) -> NDArray[Any]:
    """A piece of the bundled photo, repeated where it is too small: (height, width, channels) in 0..255."""
    pixels = decode((resources.files("penstock.models") / "photo.jpg").read_bytes()).rgb
    pixels = np.tile(pixels, (-(-height // pixels.shape[0]), -(-width // pixels.shape[1]), 1))[:height, :width]
    if channels == 1:
        grey: NDArray[Any] = pixels.mean(axis=2, keepdims=True).astype(np.float32)
        return grey
    opaque = np.full((height, width, channels - 3), 255, np.float32)
    return np.concatenate([pixels.astype(np.float32), opaque], axis=2)


CODES = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |/\S*?onnxruntime\S*:\d+ ")


def plain_message(error: BaseException) -> str:
    """A message of the runtime in one line, without its codes and the paths of its sources. Of nodes inside of nodes
    the innermost counts."""
    text = " ".join(str(error).split()).rpartition("Status Message: ")[2]
    text = CODES.sub("", text) or type(error).__name__
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"
