"""Scripts: the Lua files, put together with the parts that they use for the server that runs them.

The head of a script says what it is called with (`-- takes:`) and which functions and variables of lua/parts it uses
(`-- needs:`). From that the assembler writes the locals of the arguments, and sends the parts that are needed and no
others: a server compiles a script once, but makes all its functions anew at each call.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import redis.asyncio as redis

from penstock.core.task import PRIORITIES, State
from penstock.store.channels import OF_ALL_NODES, Channels

REFUSED_WHEN_FULL = {"ping", "submit", "batch_open", "batch_start", "upload_open"}
"""When Redis has no memory left, new tasks, batches and uploads are refused; all else goes on, since only that frees
memory."""

SHEBANG_VERSION = 7
"""Since Redis 7 a script says by a first line whether it may run when memory is full, and is refused before it has
written anything; an older server refuses its first write."""

Argument = str | bytes | float

_LUA = resources.files("penstock.store") / "lua"
_PART = re.compile(r"^local (?:function (\w+)\(.*?^end$|(\w+)(?: = [^\n]+)?$)", re.MULTILINE | re.DOTALL)
_NO_NAMES = re.compile(r"--[^\n]*|'[^'\n]*'")
_CONTINUED = r"^-- {}:((?: .*)?(?:\n--   +.*)*)$"


class Takes:
    """The names of a script's arguments, in their order. The `rest` of them, if it has a name, is a list."""

    def __init__(self, script: str, names: tuple[str, ...], rest: str | None = None) -> None:
        self.script = script
        self.names = names
        self.rest = rest
        self._known = {*names, *([rest] if rest else [])}

    def arguments(self, values: Mapping[str, Any]) -> Sequence[Argument]:
        """Put named values into the order of the script. Raises TypeError unless they are exactly those it takes."""
        try:
            arguments = [*map(values.__getitem__, self.names)]
            rest = values[self.rest] if self.rest else ()
        except KeyError as missing:
            raise self._mistaken(values) from missing
        if len(values) != len(self._known):
            raise self._mistaken(values)
        return [*arguments, *rest]

    def _mistaken(self, values: Mapping[str, Any]) -> TypeError:
        return TypeError(f"the script {self.script} takes {sorted(self._known)}, not {sorted(values)}")

    @property
    def code(self) -> str:
        """The line of Lua that gives the arguments their names."""
        if not self.rest:
            return f"local {', '.join(self.names)} = unpack(ARGV)\n" if self.names else ""
        places = [f"ARGV[{place}]" for place in range(1, len(self.names) + 1)]
        tail = f"{{unpack(ARGV, {len(places) + 1})}}" if places else "ARGV"
        return f"local {', '.join([*self.names, self.rest])} = {', '.join([*places, tail])}\n"


class Scripts:
    """Every script by its file name; ready after `load`."""

    def __init__(self, client: redis.Redis, channels: Channels = OF_ALL_NODES) -> None:
        self._client = client
        self._publish = channels.publish
        self.loaded: dict[str, Any] = {}

    async def load(self) -> None:
        """Ask the server for its version, once, and put the scripts together for it."""
        if self.loaded:
            return
        version = str((await self._client.info("server")).get("redis_version", "0"))
        modern = int(version.partition(".")[0]) >= SHEBANG_VERSION
        for name, text in TEXTS.items():
            text = text.replace(f"'{OF_ALL_NODES.publish}'", f"'{self._publish}'")
            self.loaded[name] = self._client.register_script((_shebang(name) if modern else "") + text)

    def __getitem__(self, name: str) -> Any:
        return self.loaded[name]


def parts_of(text: str) -> dict[str, str]:
    """The functions and variables that a file of lua/parts defines, by their names."""
    return {match[1] or match[2]: match[0] for match in _PART.finditer(text)}


def takes_of(script: str, text: str) -> Takes:
    """What the head of a script says that it takes."""
    *names, last = _words(text, "takes") or [""]
    if last.endswith("..."):
        return Takes(script, tuple(names), last.removesuffix("..."))
    return Takes(script, tuple(filter(None, [*names, last])))


def needs_of(text: str) -> list[str]:
    """The parts that the head of a script says that it uses, each as `file.name`."""
    return _words(text, "needs")


def used_in(code: str, parts: Mapping[str, str]) -> list[str]:
    """The names of the parts that some Lua uses, in its order, whatever its comments and texts say."""
    return [word for word in _names_in(code) if word in parts]


@cache  # a part is in most scripts
def _names_in(code: str) -> Sequence[str]:
    return list(dict.fromkeys(re.findall(r"\w+", _NO_NAMES.sub("", code))))


def assembled(script: str, takes: Takes, parts: Mapping[str, str], counting: str = "") -> str:
    """A script behind its arguments and the parts that its head names, with what these need in front of each. A script
    that asks whether it may go on has its commands counted from the first; one that changes fields writes them when it
    is over."""
    known: set[str] = set()
    wanted = [name.partition(".")[2] for name in needs_of(script)]
    needed = [part for name in wanted for part in _with_needs(name, parts, known)]
    if CHANGING in known:
        needed += [*_with_needs(WRITING, parts, known), _TO_ITS_END.format(takes.code + script)]
    else:
        needed.append(takes.code + script)
    text = "\n".join(needed)
    return f"{counting}\n{text}" if "may_go_on()" in text else text


def _with_needs(name: str, parts: Mapping[str, str], known: set[str]) -> Iterator[str]:
    if name in known or name == COUNTING:
        return
    known.add(name)
    for other in used_in(parts[name], parts):
        yield from _with_needs(other, parts, known)
    yield parts[name]


def _words(text: str, label: str) -> list[str]:
    found = re.search(_CONTINUED.format(label), text, re.MULTILINE)
    return re.findall(r"[\w.]+", found[1]) if found else []


def _shebang(name: str) -> str:
    return "#!lua\n" if name in REFUSED_WHEN_FULL else "#!lua flags=allow-oom\n"


CHANGING, WRITING = "set_field", "write_fields"
"""Parts of parts/fields.lua. Whoever uses the first needs the second at its end, wherever it returns."""

_TO_ITS_END = """local function answer_of_script()
{}end
local answer = answer_of_script()
write_fields()
return answer"""

COUNTING = "may_go_on"
"""The one function that is no part: it stands in front of all others, in _counting.lua."""

FILES = {file.name.removesuffix(".lua"): file.read_text() for file in _LUA.iterdir() if file.is_file()}
PARTS = {name: part for file in (_LUA / "parts").iterdir() for name, part in parts_of(file.read_text()).items()}
PARTS["PRIORITIES"] = f"local PRIORITIES = '{' '.join(PRIORITIES)}'"
PARTS["CLASSES"] = "local CLASSES = {'" + "', '".join(PRIORITIES) + "'}"
PARTS["RUNNING"] = f"local RUNNING = '{State.RUNNING}'"
"""The priorities, highest first, are in no file: their one table is in Python. So is that of the states."""

TAKES = {name: takes_of(name, text) for name, text in FILES.items() if not name.startswith("_")}
TEXTS = {name: assembled(FILES[name], takes, PARTS, FILES["_counting"]) for name, takes in TAKES.items()}
"""What is sent of each script, but for its first line."""
