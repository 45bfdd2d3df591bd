"""Examples of models, their versions, and what operators do to these."""

from penstock.api.description.examples.parameters import IMAGE
from penstock.api.schemas.models import (
    DefaultVersionRequest,
    ExampleAnswerView,
    ExampleView,
    FaultyModelView,
    LimitsView,
    MemberView,
    ModelList,
    ModelView,
    ResidenceView,
    VersionView,
)
from penstock.api.schemas.tasks import ResponseBody
from penstock.pixels.headers import MEDIA_TYPES

MODEL = ModelView(
    name="superres-x4",
    title="Super-resolution, 4×",
    version="1",
    versions=(
        VersionView(
            version="1",
            digest="1 92586ffbb5fd21e9f153abb178d5c92083fa091e5178ed1b6d86112ac2b0d012",
            is_default=True,
            published_at="2026-11-22T08:00:04.000Z",
            state="ready",
            workers=(
                ResidenceView(
                    worker="gpu1-cuda0-4f2a",
                    device="cuda:0",
                    state="ready",
                    since="2026-11-22T08:00:04.000Z",
                    memory_bytes=0,
                    reason="",
                ),
            ),
            guessed={},
            differs={},
        ),
    ),
    state="ready",
    guessed={},
    licence="BSD-3-Clause (general, best), Apache-2.0 (clean)",
    source="realesr-general-x4v3 and RealESRGAN_x4plus (Xintao Wang); SPAN x4 ch48 (Wan, Yu et al.)",
    produces="image",
    score_range=None,
    limits=LimitsView(
        input_formats=MEDIA_TYPES,
        input_bytes=52_428_800,
        input_megapixels=50,
        timeout_s=600.0,
    ),
    notes={"scale": 4, "formats": ["png", "jpeg", "webp", "avif", "tiff"]},
    params={"type": "object", "properties": {"variant": {"enum": ["best", "clean", "general"], "default": "general"}}},
    inputs={"image": MemberView(kind="image", required=True, description="", media_types=(), schema={})},
    example=ExampleView(
        request={"model": "superres-x4", "input": {"image_url": IMAGE}, "params": {"variant": "general"}},
        answer=ExampleAnswerView(data=None, files=("result.png",)),
    ),
)

REQUEST = DefaultVersionRequest(version="2")

ANSWERS: tuple[ResponseBody, ...] = (
    MODEL,
    ModelList(
        data=(MODEL,),
        faulty=(
            FaultyModelView(
                name="segment",
                version="2",
                worker="gpu1-cuda0-4f2a",
                reason="model.onnx has another sha256 than model.toml says",
            ),
        ),
    ),
)
