"""The commands of a page in docs, as one bash script that runs them from top to bottom.

Blocks marked `sh` are run, blocks marked `python` too; a Python block whose first line is a comment with a file name is
written to that file. Comments of Markdown that a reader does not see say what is special about the block below them:

    <!-- not run: WHY -->              the block cannot be run here
    <!-- in its own terminal: NAME --> it runs until the end, in the background; NAME (the default is `server`) may be
                                       given again, which stops what ran under it before
    <!-- stop: NAME -->                what runs in that terminal is stopped first

One of them is about the whole page:

    <!-- needs: NAMES -->              it is run only where these packages are installed
"""

import re
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(
    r"<!-- (?P<word>not run|in its own terminal|stop)(?:: (?P<rest>(?:(?!-->).)*?))? -->\s*\Z", re.DOTALL
)
_NEEDS = re.compile(r"<!-- needs: (.*?) -->")
_FILE_NAME = re.compile(r"# (\S+\.py)\n")

SERVER = "server"


class Block(Struct, frozen=True, kw_only=True):
    """One block of code, with the mark in front of it: its word, and the text after its colon."""

    language: str
    code: str
    word: str = ""
    rest: str = ""


def blocks(text: str) -> Iterator[Block]:
    """Returns every block of code of a page, in order."""
    for found in _BLOCK.finditer(text):
        code = textwrap.dedent(found["code"])
        comment = _COMMENT.search(text, 0, found.start())
        said = {"word": comment["word"], "rest": comment["rest"] or ""} if comment else {}
        yield Block(language=found["language"], code=code, **said)


def commands(text: str) -> list[Block]:
    """Returns the blocks that a reader types and that can run here."""
    return [b for b in blocks(text) if b.language in ("sh", "python") and b.word != "not run"]


def missing(text: str) -> list[str]:
    """Returns the packages that the page needs and that are not installed here."""
    return [name for needs in _NEEDS.findall(text) for name in needs.split() if find_spec(name) is None]


def starts_a_server(text: str) -> bool:
    """Whether the page starts a terminal of its own; if not, it needs a running server."""
    return any(block.word == "in its own terminal" for block in blocks(text))


def script(text: str, ports: dict[int, int]) -> str:
    """Returns the page as a script for bash. `ports` maps each port in the text to a free one."""
    whole = _FUNCTIONS + "\n".join(map(_step, commands(text)))
    return re.sub(r"\b(\d{4})\b", lambda m: str(ports.get(int(m[1]), m[1])), whole)


def _step(block: Block) -> str:
    name = re.sub(r"\W", "-", block.rest or SERVER)
    if block.word == "in its own terminal":
        return _here(f"terminal {name}", block.code)
    before = f"stop {name}\n" if block.word == "stop" else ""
    if block.language == "sh":
        return before + block.code
    file = _FILE_NAME.match(block.code)
    return before + _here(f"cat > {file[1]}" if file else "python -", block.code)


def _here(command: str, code: str) -> str:
    return f"{command} <<'END OF THE BLOCK'\n{code}END OF THE BLOCK\n"


_FUNCTIONS = """
curl() { command curl --fail-with-body "$@"; }  # a refusal fails the page, though its commands do not say so
terminal() {
  stop "$1"
  cat > ".$1.sh"
  setsid bash -euo pipefail ".$1.sh" > ".$1.log" 2>&1 &
  echo $! > ".$1.pid"
  if grep -qE 'penstock api' ".$1.sh"; then
    until command curl -sf -o answer http://127.0.0.1:8000/readyz; do kill -0 "$(cat ".$1.pid")"; sleep 0.1; done
  elif grep -qE 'penstock up' ".$1.sh"; then  # a reader waits for the address, which comes when a worker is ready
    until grep -q 'Penstock is ready' ".$1.log"; do kill -0 "$(cat ".$1.pid")"; sleep 0.1; done
  fi
}
stop() {
  [ -e ".$1.pid" ] || return 0
  local pid; pid=$(cat ".$1.pid")
  kill -TERM $(cat "/proc/$pid/task/$pid/children") || true
  wait "$pid" || true
  rm ".$1.pid"
}
leave() {
  for pid in .*.pid; do [ ! -e "$pid" ] || stop "$(basename "${pid#.}" .pid)"; done
}
trap leave EXIT
set -x
"""


def pages(root: Path) -> list[Path]:
    """Returns the pages with commands for a reader to type."""
    found = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return [page for page in found if commands(page.read_text())]
