"""Prepare the stand-ins: `python -m tests.standin prepare [DIRECTORY]`."""

import argparse
import subprocess
import sys
from pathlib import Path

from tests.standin.build import build
from tests.standin.environment import RUNTIME, Standin


def main() -> int:
    """Make the second environment and the libraries. Returns 1 where that is not possible, after saying why."""
    parser = argparse.ArgumentParser(prog="python -m tests.standin", description=__doc__)
    commands = parser.add_subparsers(required=True)
    prepare = commands.add_parser("prepare", help="make the second environment and the stand-ins")
    prepare.add_argument("directory", nargs="?", type=Path, help="default: $STANDIN_DIR, or .standin in the checkout")
    standin = Standin(parser.parse_args().directory)
    try:
        print(f"{RUNTIME} over stand-ins in {standin.directory}: {_prepare(standin)}")
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"the stand-ins cannot be made: {error}", file=sys.stderr)
        return 1
    return 0


def _prepare(standin: Standin) -> str:
    standin.make_environment()
    if standin.is_ready():
        return "up to date"
    standin.stamp.unlink(missing_ok=True)
    build(cc := standin.compiler(), standin.provider, standin.libraries)
    standin.stamp.write_text(standin.digest())
    return f"built with {' '.join(cc)}"


if __name__ == "__main__":
    sys.exit(main())
