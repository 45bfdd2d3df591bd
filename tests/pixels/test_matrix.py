"""The matrix: every kind of file, profile, orientation, size and way to write a result, in all pairs of two.

A worker runs superres-x4 with networks that repeat each pixel, and children that decode: what comes out is known of
every pixel. Pillow and LittleCMS read it, and say what colours mean.
"""

import asyncio
import io
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from itertools import cycle, product
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from penstock.core.lease import Lease
from penstock.core.output import OutputOptions
from penstock.core.request import Request, Source
from penstock.core.task import Priority, Result
from penstock.errors import ImageDecodeFailed
from penstock.pixels.decoding import decode
from penstock.pixels.notes import Note
from penstock.pixels.picture import PixelForm
from penstock.settings import LimitSettings
from penstock.worker.decoders.pool import open_pool
from tests.pixels.shown import Shown, averaged, enlarged_alpha, in_srgb, read, repeated, shown_of
from tests.pixels.sources import AUTHOR, KINDS, ORIENTATIONS, PLACE, PROFILES, WITHOUT_EXIF, Array, Kind, written
from tests.support.memory_storage import MemoryStorage
from tests.support.pairs import Case, pairs_of, pairwise
from tests.support.repeating_superres import MODEL, SCALE
from tests.support.workers import pipeline

OUTPUTS: dict[str, OutputOptions] = {
    "png": OutputOptions(),
    "png of 16 bits": OutputOptions(bits=16),
    "jpeg": OutputOptions(format="jpeg", quality=95),
    "webp": OutputOptions(format="webp", quality=95),
    "webp, lossless": OutputOptions(format="webp", lossless=True),
    "avif": OutputOptions(format="avif", quality=95),
    "tiff": OutputOptions(format="tiff"),
    "source": OutputOptions(format="source", quality=95),
}

AXES: dict[str, tuple[Any, ...]] = {
    "kind": tuple(KINDS),
    "profile": tuple(PROFILES),
    "orientation": tuple(ORIENTATIONS),
    "size": ((1, 1), (1, 9), (9, 1), (7, 5), (16, 12), (33, 20)),
    "output": tuple(OUTPUTS),
    "color": ("srgb", "keep"),
    "alpha": ("network", "bicubic"),
    "metadata": ("strip", "keep"),
}
CUT_OFF = ("jpeg RGB 4:4:4, progressive", "jpeg L", "png RGB 8 bits", "png RGBA 16 bits", "png P 4 bits")
CASES = list(pairwise(AXES))
SOURCE_FORMATS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "AVIF": "avif", "TIFF": "tiff"}
KEEP_EXIF = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF")
"""The formats whose metadata a result may keep."""

Run = Callable[[bytes, OutputOptions, dict[str, Any]], tuple[Result, bytes]]


def id_of(case: Case) -> str:
    width, height = case["size"]
    return ", ".join(str(value) for value in (case | {"size": f"{width}x{height}"}).values())


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs a task in a worker, and returns its result and the file."""
    storage = MemoryStorage()
    with asyncio.Runner() as runner, open_pool(LimitSettings()) as decoders:
        stack = AsyncExitStack()
        worker = runner.run(stack.enter_async_context(pipeline(storage, MODEL, decoders=decoders)))

        def result_of(data: bytes, output: OutputOptions, params: dict[str, Any]) -> tuple[Result, bytes]:
            request = Request(model=MODEL, inputs={"image": Source(data=data)}, params=params, output=output)
            lease = Lease(
                id="tsk_1", epoch=1, fence="f", tenant="default", caller="alice", priority=Priority.NORMAL, failures=0,
                crashes=0, max_retries=0, timeout_s=60, waited_ms=0, request=request,
            )  # fmt: skip
            result = runner.run(worker.run(lease, lambda stage, progress: None)).result
            assert result is not None
            (artifact,) = result.artifacts
            return result, storage.objects[artifact.s3_key]

        yield result_of
        runner.run(stack.aclose())


def test_every_pair_of_values_is_among_the_cases() -> None:
    numbers = {axis: {value: n for n, value in enumerate(values)} for axis, values in AXES.items()}
    missing = pairs_of(AXES)
    for case in CASES:
        places = [(axis, numbers[axis][value]) for axis, value in case.items()]
        missing -= {frozenset({one, other}) for one in places for other in places}

    assert not missing
    assert len(CASES) < 1.2 * len(KINDS) * len(OUTPUTS)


@pytest.mark.parametrize("case", CASES, ids=id_of)
def test_a_result_shows_what_its_source_shows(case: Case, run: Run) -> None:
    kind = KINDS[case["kind"]]
    data, known = written(kind, case["size"], case["orientation"], PROFILES[case["profile"]])
    options = replace(OUTPUTS[case["output"]], color=case["color"], metadata=case["metadata"])
    is_deep = kind.bits == 16 and options.bits == 16
    shown = shown_of(kind, known, case["profile"], is_kept=case["color"] == "keep", is_deep=is_deep)

    result, file = run(data, options, {"alpha": case["alpha"]})

    form = SOURCE_FORMATS.get(kind.form, "png") if options.format == "source" else options.format
    (artifact,), image = result.artifacts, Image.open(io.BytesIO(file))
    assert (artifact.content_type, image.format) == (f"image/{form}", form.upper())
    assert (artifact.width, artifact.height) == image.size == tuple(SCALE * side for side in case["size"])
    check_profile(image.info.get("icc_profile"), shown, form)
    assert result.notes == notes_of(case, kind, shown)
    check_pixels(file, shown, case, form)
    check_metadata(file, image, case, form)


@pytest.mark.parametrize("kind", KINDS)
def test_every_profile_of_a_kind_is_converted_or_kept(kind: str) -> None:
    colors, orientations = product(PROFILES, AXES["color"]), cycle(ORIENTATIONS)
    for (profile, color), orientation in zip(colors, orientations, strict=False):
        case = {"kind": kind, "profile": profile, "orientation": orientation, "color": color, "metadata": "strip"}
        data, known = written(KINDS[kind], (7, 5), orientation, PROFILES[profile])
        is_deep = KINDS[kind].bits == 16
        shown = shown_of(KINDS[kind], known, profile, is_kept=color == "keep", is_deep=is_deep)

        picture = decode(data, wanted=PixelForm(is_deep=True, keeps_colours=color == "keep"))

        white = np.iinfo(picture.rgb.dtype).max
        colours = shown.colours if shown.colours.ndim == 3 else shown.colours[..., None].repeat(3, axis=2)
        assert white == (65_535 if is_deep else 255)
        assert picture.grey == (shown.colours.ndim == 2), case
        assert picture.profile == shown.profile, case
        assert_near(picture.rgb / white, colours, max(shown.tolerance, 0.0 if is_deep else 0.6)), case
        assert (picture.alpha is None) == (shown.alpha is None), case
        if picture.alpha is not None and shown.alpha is not None:
            assert_near(picture.alpha / white, shown.alpha, 1.01)
        assert set(picture.notes) == set(notes_of(case, KINDS[kind], shown)) - {"alpha_filled"}, case


@pytest.mark.parametrize("output", ["png", "png of 16 bits", "jpeg"])
@pytest.mark.parametrize(
    "kind", ["jpeg RGB 4:4:4, progressive", "jpeg L", "png RGB 8 bits", "png RGBA 16 bits", "png P 4 bits"]
)
def test_what_is_there_of_a_truncated_image_is_enlarged_where_that_is_accepted(
    kind: str, output: str, run: Run
) -> None:
    data, known = written(KINDS[kind], (60, 80), 1, None)
    some = data[: -len(data) // 6]

    result, file = run(some, OUTPUTS[output], {"accept_truncated": True})

    colours, _ = read(file)
    wanted = known.values / np.iinfo(known.values.dtype).max
    assert "truncated" in result.notes
    assert colours.shape[:2] == (320, 240)
    assert known.alpha is not None or np.abs(colours[:8] - repeated(wanted)[:8]).mean() < 0.02
    with pytest.raises(ImageDecodeFailed, match="truncated"):
        run(some, OUTPUTS[output], {})


def check_pixels(file: bytes, shown: Shown, case: Case, form: str) -> None:
    seen, alpha = read(file)
    wanted, bits = repeated(shown.colours), OUTPUTS[case["output"]].bits
    opacity = enlarged_alpha(shown, by_network=case["alpha"] == "network", bits=bits)
    is_known = np.ones(seen.shape[:2], bool) if shown.alpha is None else repeated(shown.alpha) > 0
    if wanted.ndim == 2 and seen.ndim == 3:  # of formats that have no greys
        assert form in ("webp", "avif")
        wanted = np.dstack([wanted] * 3)
    assert seen.shape == wanted.shape
    is_exact = form in ("png", "tiff") or (form == "webp" and OUTPUTS[case["output"]].lossless)
    if opacity is not None and form == "jpeg":
        assert alpha is None
        share = opacity if wanted.ndim == 2 else opacity[..., None]
        wanted, opacity = wanted * share + 1 - share, None
    if opacity is not None and (is_exact or opacity.min() < 1):
        assert_near(np.ones_like(opacity) if alpha is None else alpha, opacity, 1.01 if is_exact else 24)
    if is_exact:
        assert_near(seen[is_known], wanted[is_known], shown.tolerance)
    else:
        blocks = averaged(is_known) == 1
        apart = np.abs(averaged(seen) - averaged(wanted))[blocks] * 255
        assert apart.size == 0 or (apart.mean() < 5 and apart.max() < 45)


def assert_near(seen: Array, wanted: Array, levels: float) -> None:
    apart = np.abs(seen - wanted).max(initial=0) * 255
    assert apart <= levels


def check_profile(profile: bytes | None, shown: Shown, form: str) -> None:
    if shown.profile is None or shown.colours.ndim == 3 or form not in ("webp", "avif"):
        assert profile == shown.profile
        return
    assert profile is not None
    greys = np.arange(256, dtype=np.uint8)[None]
    as_greys, as_colours = in_srgb(greys, shown.profile), in_srgb(np.dstack([greys] * 3), profile)
    assert_near(as_colours / 255, as_greys[..., None] / 255, 2.01)


def check_metadata(file: bytes, image: Image.Image, case: Case, form: str) -> None:
    kind = KINDS[case["kind"]]
    assert PLACE.encode() not in file
    assert (AUTHOR.encode() in file) == (case["metadata"] == "keep" and kind.form in KEEP_EXIF)
    assert image.getexif().get(0x0112, 1) == 1
    assert not {"xmp", "comment", "photoshop", "Comment", "XML:com.adobe.xmp"} & image.info.keys()


def notes_of(case: Case, kind: Kind, shown: Shown) -> tuple[Note, ...]:
    has_exif, is_kept = kind.form not in WITHOUT_EXIF, case["metadata"] == "keep" and kind.form in KEEP_EXIF
    has_profile = has_exif and PROFILES[case["profile"]] is not None
    hides = shown.alpha is not None and bool((shown.alpha == 0).any() and (shown.alpha > 0).any())
    done: dict[Note, bool] = {
        "turned": has_exif and case["orientation"] > 1,
        "profile_converted": shown.applies and shown.profile is None,
        "profile_ignored": has_profile and not shown.applies,
        "alpha_filled": hides,
        "metadata_stripped": has_exif and not is_kept,
    }
    return tuple(note for note, is_done in done.items() if is_done)
