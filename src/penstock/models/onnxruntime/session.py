"""The model files that ship with Penstock: the rows of the manifest, and a session of one."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Literal

import msgspec
from msgspec import Struct

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.models.onnxruntime.network import NetworkSession
from penstock.models.onnxruntime.runtime import External

Contents = bytes


class ModelFile(Struct, frozen=True, kw_only=True):
    """One row of the manifest: a file that ships, its origin and its digest.

    Every file takes `image`, (batch, height, width, 3) in uint8, RGB. A file that enlarges returns the same of `scale`
    times the height and width, and for each image the sum of its values in fp32, which is not finite where one of them
    is not. The levels of a file with fp16 arithmetic may differ from those of its fp32 twin by `tolerance`, a share of
    255. `device` is the kind of device that the file is shaped for. `beside` names the file with its large weights,
    where it does not hold them itself.
    """

    name: str
    variant: str
    version: str
    device: Literal["any", "cpu", "cuda"] = "any"
    precision: Literal["fp32", "fp16"] = "fp32"
    tolerance: float = 0.0
    file: str
    sha256: str
    bytes: int
    beside: str = ""
    beside_sha256: str = ""
    beside_bytes: int = 0
    licence: str
    source: str
    scale: int = 1
    overlap_px: int = 0

    cpu_nodes = False

    @property
    def network(self) -> str:
        """The network that all files of this model and variant compute, such as `superres-x4.general`."""
        return f"{self.name}.{self.variant}"

    @property
    def weights_bytes(self) -> int:
        """How large it is, with the weights that it does not hold itself."""
        return self.bytes + self.beside_bytes

    def external(self) -> External:
        """The weights that it does not hold itself. Raises what `read` raises."""
        return {self.beside: _shipped(self.beside, self.beside_sha256)} if self.beside else {}

    def read(self) -> Contents:
        """Its contents. Raises ConfigurationError when they are not there, or do not have the digest."""
        return _shipped(self.file, self.sha256)


def _shipped(name: str, sha256: str) -> Contents:
    try:
        data = (resources.files("penstock.weights") / name).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be read ({error.strerror}); reinstall") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ConfigurationError(f"{name} is damaged: it does not have the digest of the manifest; reinstall")
    return data


def manifest(kind: Literal["cpu", "cuda"] = "cpu") -> dict[tuple[str, str], ModelFile]:
    """The fp32 files for devices of this kind by (model, variant). Files of one network have the same values, but for
    rounding, and the same scale and overlap."""
    exact = (row for row in _rows() if row.precision == "fp32" and row.device in ("any", kind))
    return {(row.name, row.variant): row for row in exact}


def half(file: ModelFile) -> ModelFile | None:
    """The file of the same network with fp16 arithmetic; None where there is none."""
    twins = [r for r in _rows() if (r.name, r.variant, r.precision) == (file.name, file.variant, "fp16")]
    return twins[0] if twins else None


@cache
def _rows() -> list[ModelFile]:
    text = (resources.files("penstock.weights") / "manifest.toml").read_text()
    return msgspec.convert(tomllib.loads(text)["model"], list[ModelFile])


def files_of(model: str) -> list[ModelFile]:
    """All files that a model may run, with any arithmetic."""
    return [row for row in _rows() if row.name == model]


def damaged() -> list[str]:
    """A line about each shipped file that is not the one in the manifest."""
    found = []
    for row in _rows():
        try:
            row.read()
            row.external()
        except ConfigurationError as error:
            found.append(str(error))
    return found


def digest_of(files: Iterable[ModelFile]) -> str:
    """A digest of the versions and the contents of these files."""
    parts = sorted((file.file, file.version, file.sha256, file.beside_sha256) for file in files)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


class Session(NetworkSession):
    """One file of the manifest on one device."""

    def __init__(
        self,
        file: ModelFile,
        device: Device,
        shapes: Sequence[tuple[int, int]] = (),
        options: Mapping[str, str] | None = None,
    ) -> None:
        """As that of a NetworkSession."""
        super().__init__(file, device, shapes, options)
        self.file = file
