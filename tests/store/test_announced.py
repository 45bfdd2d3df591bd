"""A version that `penstock models add` has put into the directory is announced, and becomes the default one."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from penstock.cli.models.announcing import announced
from penstock.core.model import Model
from penstock.settings import RedisSettings, Settings
from penstock.store import ModelStore, Store


def version_of(name: str, version: str) -> Model:
    return Model(name=name, version=version, digest=version, versioned=True)


async def test_a_version_becomes_the_default_one_when_a_worker_has_published_it(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: asyncio.Queue[None] = asyncio.Queue()
    missing = ModelStore.missing

    async def observed(self: ModelStore, ids: Sequence[str]) -> list[str]:
        asked.put_nowait(None)
        return await missing(self, ids)

    monkeypatch.setattr(ModelStore, "missing", observed)
    await store.models.publish([version_of("net", "1")], worker="w1")
    announcing = asyncio.create_task(announced(settings, "net", "2", default=True))
    for _ in range(2):  # the second time after it was answered
        await asyncio.wait_for(asked.get(), 60)
    assert "net" not in (await store.models.catalogue()).defaults

    await store.models.publish([version_of("net", "2")], worker="w1")

    assert await announcing == ""
    assert (await store.models.catalogue()).defaults["net"] == "2"


async def test_without_a_server_one_is_told_how_to_make_it_the_default(settings: Settings, tmp_path: Path) -> None:
    away = msgspec.structs.replace(settings, redis=RedisSettings(url=f"unix://{tmp_path}/none.sock"))

    assert await announced(away, "net", "2", default=False) == ""
    told = await announced(away, "net", "2", default=True)
    assert told == "no server can be reached; when one runs: penstock models set-default net 2"
