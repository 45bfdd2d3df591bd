"""The Lua files, put together for the server that runs them."""

from importlib import resources
from typing import Any

from penstock.store.connection import Redis

REFUSED_WHEN_FULL = {"submit", "batch_open", "batch_start", "upload_open"}
"""When Redis has no memory left, new tasks, batches and uploads are refused; all else goes on, since only that frees
memory."""

SHEBANG_VERSION = 7
"""Since Redis 7 a script says by a first line whether it may run when memory is full, and is refused before it has
written anything; an older server refuses its first write."""


class Scripts:
    """Every script by its file name; ready after `load`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._scripts: dict[str, Any] = {}

    async def load(self) -> None:
        """Ask the server for its version, once, and put the scripts together for it."""
        if self._scripts:
            return
        version = str((await self._client.info("server")).get("redis_version", "0"))
        modern = int(version.partition(".")[0]) >= SHEBANG_VERSION
        lua = resources.files("penstock.store") / "lua"
        prelude = (lua / "prelude.lua").read_text()
        for file in lua.iterdir():
            name, _, suffix = file.name.partition(".")
            if suffix == "lua" and name != "prelude":
                first = _shebang(name) if modern else ""
                self._scripts[name] = self._client.register_script(first + prelude + file.read_text())

    def __getitem__(self, name: str) -> Any:
        return self._scripts[name]


def _shebang(name: str) -> str:
    return "#!lua\n" if name in REFUSED_WHEN_FULL else "#!lua flags=allow-oom\n"
