"""How many Python calls does a request take, and which room makes them?

    python -m tools.python_calls [--each]

Starts the API in a thread and a Redis beside it, sends a submit with a small image and a look at its task, and counts
as `tests.support.python_calls` says. `--each` prints every function with its number of calls, the most first.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from types import CodeType

import penstock
from penstock.settings import ApiSettings, RedisSettings, Settings, StorageSettings
from tests.support import python_calls, redis_server

API_KEY = "a-key-only-for-the-count"
OURS = Path(penstock.__file__).parent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", action="store_true", help="every function, not only the rooms")
    name = function_of if parser.parse_args().each else room_of
    with tempfile.TemporaryDirectory() as folder, redis_server.on_socket(Path(folder)) as socket:
        settings = Settings(
            api=ApiSettings(keys=(API_KEY,), rate_limit_per_minute=100_000, linger_s=0),
            redis=RedisSettings(url=f"unix://{socket}"),
            storage=StorageSettings(directory=f"{folder}/objects"),
        )
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stderr(nowhere),
            python_calls.serving(settings, API_KEY) as served,
        ):
            submit, read = python_calls.of_submit(*served), python_calls.of_read(*served)
    show(submit, read, name)


def show(submit: Sequence[CodeType], read: Sequence[CodeType], name: Callable[[CodeType], str]) -> None:
    """Print a line of Markdown for each name, those with the most calls first."""
    of_submit, of_read = Counter(map(name, submit)), Counter(map(name, read))
    print(f"| Python {sys.version.partition(' ')[0]} | POST | GET |\n| --- | ---: | ---: |")
    for row in sorted({*of_submit, *of_read}, key=lambda row: -of_submit[row] - of_read[row]):
        print(f"| {row} | {of_submit[row]} | {of_read[row]} |")
    print(f"| **all** | **{len(submit)}** | **{len(read)}** |")


def room_of(code: CodeType) -> str:
    """Return the room of the package, the library, or the module of Python that a function is in."""
    file = Path(code.co_filename)
    if file.is_relative_to(OURS):
        return f"`{file.relative_to(OURS).parts[0]}`"
    if "site-packages" in file.parts:
        return file.parts[file.parts.index("site-packages") + 1]
    return "asyncio" if file.parent.name == "asyncio" else "others of Python"


def function_of(code: CodeType) -> str:
    """Return where a function stands."""
    return f"{room_of(code)} {Path(code.co_filename).name}:{code.co_firstlineno} {code.co_qualname}"


if __name__ == "__main__":
    main()
