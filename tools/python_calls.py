"""How many Python calls does a request take, and a task in a worker, and which room makes them?

    python -m tools.python_calls [--each]

Starts the API in a thread and a Redis beside it, sends a submit with a small image and a look at its task, and counts
as `tests.support.python_calls` says; then does the same for a worker with a task that does nothing, as `worker_calls`
says there. `--each` prints every function with its number of calls, the most first.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from types import CodeType

import penstock
from penstock.settings import ApiSettings, RedisSettings, Settings, StorageSettings
from tests.support import python_calls, redis_server, worker_calls

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
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
            task = worker_calls.of_task(f"unix://{socket}", "calls", Path(folder))
    show({"POST": submit, "GET": read, "worker, a task": task}, name)


def show(calls: Mapping[str, Sequence[CodeType]], name: Callable[[CodeType], str]) -> None:
    """Print a line of Markdown for each name, those with the most calls first."""
    each = [Counter(map(name, made)) for made in calls.values()]
    print(f"| Python {sys.version.partition(' ')[0]} | {' | '.join(calls)} |")
    print(f"| --- |{' ---: |' * len(calls)}")
    for row, _ in sum(each, Counter()).most_common():
        print(f"| {row} | {' | '.join(str(made[row]) for made in each)} |")
    print(f"| **all** | {' | '.join(f'**{len(made)}**' for made in calls.values())} |")


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
