"""The second environment: onnxruntime-gpu in place of onnxruntime, and everything else of the running environment.

Both wheels own one directory, and Penstock refuses to start with both, so that they cannot be in one environment. The
second one has links to what the first has installed, and nothing is installed twice.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata, util
from pathlib import Path

from tests.standin.build import SOURCES

RUNTIME = "onnxruntime-gpu==1.31.1"
"""The version that the stand-ins were made for. It is the one of `deploy/constraints-gpu.txt`, too."""

COMPILER = "ziglang==0.17.1"
"""A C compiler that pip can install, for a machine that has none."""

ROOT = Path(__file__).parents[2]
NOT_SHARED = ("onnxruntime", "__pycache__", "_virtualenv")


class Standin:
    """The directory with the second environment and the libraries; STANDIN_DIR, else `.standin` in the checkout."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = (directory or Path(os.environ.get("STANDIN_DIR", ROOT / ".standin"))).absolute()
        self.python = self.directory / "venv" / "bin" / "python"
        self.libraries = self.directory / "lib"
        self.packages = Path(sysconfig.get_path("purelib", vars={"base": str(self.directory / "venv")}))
        self.provider = self.packages / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
        self.stamp = self.directory / "built"

    def is_ready(self) -> bool:
        """Whether the libraries are there, made from the present sources."""
        return self.stamp.exists() and self.stamp.read_text() == self.digest()

    def digest(self) -> str:
        """A digest of all that the libraries are made of."""
        digest = hashlib.sha256(RUNTIME.encode())
        for path in [SOURCES.with_name("build.py"), *sorted(SOURCES.iterdir())]:
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def make_environment(self) -> None:
        """Make the second environment, or bring it up to date. Raises CalledProcessError."""
        if not self.python.exists():
            venv.create(self.directory / "venv", symlinks=True)
        _install(RUNTIME, self.packages)
        self._link_packages()

    def compiler(self) -> list[str]:
        """The command of a C compiler: the machine's, else one that is installed here. Raises CalledProcessError."""
        own, ours = shutil.which("cc"), self.directory / "compiler"
        if not own:
            _install(COMPILER, ours)
            os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(ours / "cache"))
        return [own] if own else [str(ours / "ziglang" / "zig"), "cc"]

    def libraries_but(self, without: tuple[str, ...]) -> Path:
        """A directory with the stand-ins but for these, such as libcudnn.so.9."""
        if not without:
            return self.libraries
        directory = self.libraries.with_name("lib-without-" + "-".join(sorted(without)))
        directory.mkdir(exist_ok=True)
        for path in self.libraries.glob("*.so.*[0-9]"):
            link = directory / path.name
            if path.name not in without and not link.exists():
                link.symlink_to(path)
        return directory

    def _link_packages(self) -> None:
        for link in [path for path in self.packages.iterdir() if path.is_symlink()]:
            link.unlink()
        for directory in _package_directories():
            for path in directory.iterdir():
                ours = self.packages / path.name
                if not (path.name.startswith(NOT_SHARED) or path.suffix == ".pth" or ours.is_symlink()):
                    ours.symlink_to(path)
        (self.packages / "penstock.pth").write_text(f"{_source()}\n")


def _install(requirement: str, into: Path) -> None:
    name, version = requirement.split("==")
    if [d.version for d in metadata.distributions(name=name, path=[str(into)])] != [version]:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--upgrade"]
        subprocess.run([*pip, "--disable-pip-version-check", "--target", str(into), requirement], check=True)


def _package_directories() -> list[Path]:
    """Where the running interpreter has its packages, the first first."""
    return [path for path in map(Path, sys.path) if path.name in ("site-packages", "dist-packages") and path.is_dir()]


def _source() -> Path:
    spec = util.find_spec("penstock")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parents[1]
