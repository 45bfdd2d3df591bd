"""The Lua files, put together for the server that runs them."""

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import redis.asyncio as redis

from penstock.core.task import PRIORITIES

REFUSED_WHEN_FULL = {"ping", "submit", "batch_open", "batch_start", "upload_open"}
"""When Redis has no memory left, new tasks, batches and uploads are refused; all else goes on, since only that frees
memory."""

SHEBANG_VERSION = 7
"""Since Redis 7 a script says by a first line whether it may run when memory is full, and is refused before it has
written anything; an older server refuses its first write."""

_LUA = resources.files("penstock.store") / "lua"
_PART = re.compile(r"^local (?:function (\w+)\(.*?^end$|(\w+)(?: = [^\n]+)?$)", re.MULTILINE | re.DOTALL)
_NO_NAMES = re.compile(r"--[^\n]*|'[^'\n]*'")


class Scripts:
    """Every script by its file name; ready after `load`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._scripts: dict[str, Any] = {}

    async def load(self) -> None:
        """Ask the server for its version, once, and put the scripts together for it."""
        if self._scripts:
            return
        version = str((await self._client.info("server")).get("redis_version", "0"))
        modern = int(version.partition(".")[0]) >= SHEBANG_VERSION
        for name, text in TEXTS.items():
            self._scripts[name] = self._client.register_script((_shebang(name) if modern else "") + text)

    def __getitem__(self, name: str) -> Any:
        return self._scripts[name]


def parts_of(text: str) -> dict[str, str]:
    """The functions and variables that a file defines, by their names."""
    return {match[1] or match[2]: match[0] for match in _PART.finditer(text)}


def assembled(script: str, parts: Mapping[str, str], counting: str = "") -> str:
    """A script behind those of the parts that it names, and that they name, each after what it needs: a server makes
    all functions of a script anew whenever it is called. One that asks whether it may go on has its commands counted
    from the first."""
    text = "\n".join([*_needed(script, parts, set()), script])
    return f"{counting}\n{text}" if "may_go_on()" in text else text


def _needed(text: str, parts: Mapping[str, str], known: set[str]) -> Iterator[str]:
    words = re.findall(r"\w+", _NO_NAMES.sub("", text))
    for name in dict.fromkeys(word for word in words if word in parts):
        if name not in known:
            known.add(name)
            yield from _needed(parts[name], parts, known)
            yield parts[name]


def _shebang(name: str) -> str:
    return "#!lua\n" if name in REFUSED_WHEN_FULL else "#!lua flags=allow-oom\n"


def _read() -> dict[str, str]:
    parts = {name: part for file in (_LUA / "parts").iterdir() for name, part in parts_of(file.read_text()).items()}
    parts["PRIORITIES"] = f"local PRIORITIES = '{' '.join(PRIORITIES)}'"
    texts = {file.name.removesuffix(".lua"): file.read_text() for file in _LUA.iterdir() if file.is_file()}
    counting = texts.pop("_counting")
    return {name: assembled(text, parts, counting) for name, text in texts.items()}


TEXTS = _read()
"""What is sent of each script, but for its first line."""
