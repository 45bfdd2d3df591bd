"""The environment of the other servers, made when it is first needed."""

import subprocess
import sys
import tempfile
import venv
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers" / "requirements.txt"

SAME = ("httptools", "numpy", "onnxruntime", "pillow", "uvicorn", "uvloop")
"""Packages that Penstock uses too: the others get the same versions."""


def peer_python() -> str:
    """Returns the interpreter of an environment with the packages of the other servers.

    The first call takes minutes and needs a package index; the folder is named by what is in it.
    """
    wanted = REQUIREMENTS.read_text() + "\n".join(filter(None, map(_pinned, SAME)))
    name = sha256(f"{sys.version} {wanted}".encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / "penstock-compare" / name
    python, done = folder / "bin" / "python", folder / "complete"
    if not done.exists():
        print(f"compare: installing the other servers into {folder} ...", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        (folder / "requirements.txt").write_text(wanted)
        install = [str(python), "-m", "pip", "install", "-qq", "-r", str(folder / "requirements.txt")]
        if subprocess.run(install, check=False).returncode:
            raise SystemExit("compare: they cannot be installed; --peer-python names an environment that has them")
        done.touch()
    return str(python)


def _pinned(package: str) -> str:
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:  # onnxruntime-gpu is another package
        return ""
