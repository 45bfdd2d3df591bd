"""The images of the Containerfile: what they have, what they run as, their size, and whether two builds are equal."""

import json
from pathlib import Path

import pytest

from tests.containers.conftest import Note
from tests.containers.programs import passes, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

TARGETS = {"api": False, "worker-cpu": True}
"""Whether each has a model runtime. `worker-cuda` has several GB, and is built once, since only its lock is another."""


@pytest.fixture(scope="module", params=TARGETS)
def image(request: pytest.FixtureRequest, engine: str, checkout: Path) -> tuple[str, str]:
    """(target, tag) of an image just built."""
    return request.param, built(engine, checkout, request.param, "under-test")


def built(engine: str, checkout: Path, target: str, version: str, *options: str) -> str:
    tag = f"penstock-{target}:{version}"
    arguments = ["-f", "Containerfile", "--target", target, "--build-arg", f"VERSION={version}", "-t", tag]
    passes(engine, "build", *arguments, *options, ".", cwd=checkout, timeout_s=1800, DOCKER_BUILDKIT="1")
    return tag


def layers(engine: str, tag: str) -> list[str]:
    """The digests of the layers of an image: of all files in each, with their modes, owners, and times."""
    (found,) = json.loads(passes(engine, "image", "inspect", tag))
    return list(found["RootFS"]["Layers"])


def hardened(engine: str, *arguments: str) -> list[str]:
    closed = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    return [engine, "run", "--rm", *closed, *arguments]


def python(engine: str, tag: str, program: str) -> str:
    return passes(*hardened(engine, "--entrypoint", "python", tag, "-c", program))


def test_an_image_runs_closed_and_has_what_it_should(image: tuple[str, str], engine: str, note: Note) -> None:
    target, tag = image
    asks = "import importlib.util as u, os; print(os.getuid(), *(bool(u.find_spec(n)) for n in ('onnxruntime', 'pip')))"
    passes(*hardened(engine, tag, "config"))
    (found,) = json.loads(passes(engine, "image", "inspect", tag))
    note(f"image {target}, MB", round(found["Size"] / 1e6))

    assert python(engine, tag, asks).split() == ["10001", str(TARGETS[target]), "False"]
    assert found["Config"]["Labels"]["org.opencontainers.image.version"] == "under-test"


def test_an_image_holds_no_build_tools_and_no_wheels(image: tuple[str, str], engine: str) -> None:
    _, tag = image

    assert python(engine, tag, "import os; print([p for p in ('/wheels', '/source') if os.path.exists(p)])") == "[]\n"


def test_two_builds_have_the_same_layers(image: tuple[str, str], engine: str, checkout: Path) -> None:
    target, tag = image

    again = built(engine, checkout, target, "again", "--no-cache")

    assert layers(engine, again) == layers(engine, tag)


LOADS = """
import ctypes, pathlib, onnxruntime
onnxruntime.preload_dlls()
print(onnxruntime.get_available_providers())
libraries = pathlib.Path(onnxruntime.__file__).parent / "capi"
ctypes.CDLL(str(libraries / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
try:
    ctypes.CDLL(str(libraries / "libonnxruntime_providers_cuda.so"))
except OSError as error:
    print(error)
"""


def test_the_image_for_gpus_lacks_nothing_but_the_driver(engine: str, checkout: Path, note: Note) -> None:
    """The driver is the host's, and is put into the container by NVIDIA's toolkit."""
    tag = built(engine, checkout, "worker-cuda", "under-test")
    (found,) = json.loads(passes(engine, "image", "inspect", tag))
    note("image worker-cuda, MB", round(found["Size"] / 1e6))

    providers, lacks = python(engine, tag, LOADS).splitlines()
    doctor = run(*hardened(engine, tag, "doctor"))

    assert "CUDAExecutionProvider" in providers
    assert lacks.startswith("libcuda.so.1: ")
    assert doctor.returncode != 0
    assert "install the driver, or run the container with the NVIDIA Container Toolkit" in doctor.stdout
