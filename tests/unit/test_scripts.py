"""Of the Lua that scripts share, each is sent with what it needs, and with nothing else."""

import re
from importlib import resources

import pytest

from penstock.store.scripts import TEXTS, assembled, parts_of

LUA = resources.files("penstock.store") / "lua"
PARTS = """
-- What starts every key.
local ROOT = KEYS[1]

-- Of task_key, one more.
local function key(name)
  return ROOT .. name
end

local function task_key(id)
  return key('task:') .. id
end

local function drop(id)
  redis.call('DEL', task_key(id))
  note(id)
end

local function note(id)
  redis.call('RPUSH', key('drop'), id)
end
"""


def test_a_script_comes_after_what_it_needs_and_without_the_rest() -> None:
    script = "-- drop nothing\nreturn redis.call('GET', task_key('drop'))\n"

    text = assembled(script, parts_of(PARTS))

    assert re.findall(r"^local (?:function )?(\w+)", text, re.MULTILINE) == ["ROOT", "key", "task_key"]
    assert text.endswith(f"end\n{script}")


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_a_script_calls_nothing_that_it_does_not_bring_along(name: str) -> None:
    code = re.sub(r"--.*|'[^'\n]*'", "", TEXTS[name])

    called = set(re.findall(r"(?<![.\w])(\w+)\(", code)) - {"function", "if", "and", "or", "not", "for"}
    given = set(re.findall(r"function\([^)]*\b(\w+)\)|function \w+\([^)]*\b(\w+)\)", code))

    defined = set(re.findall(r"local function (\w+)", code)) | {name for pair in given for name in pair}
    of_lua = {"assert", "ipairs", "pcall", "tonumber", "type", "unpack"}
    assert called - defined <= of_lua | {"uncounted", "uncounted_pcall"}


@pytest.mark.parametrize("file", list((LUA / "parts").iterdir()), ids=lambda file: file.name)
def test_a_shared_file_is_parts_and_comments_and_nothing_else(file: resources.abc.Traversable) -> None:
    text = file.read_text()

    rest = text
    for part in parts_of(text).values():
        rest = rest.replace(part, "")

    assert [line for line in rest.splitlines() if line and not line.startswith("--")] == []


def test_two_parts_never_share_a_name() -> None:
    names = [name for file in (LUA / "parts").iterdir() for name in parts_of(file.read_text())]

    assert len(names) == len(set(names))


def test_every_part_is_in_some_script() -> None:
    names = {name for file in (LUA / "parts").iterdir() for name in parts_of(file.read_text())}

    assert {name for name in names if not any(re.search(rf"\b{name}\b", text) for text in TEXTS.values())} == set()


def test_reading_a_task_sends_nothing_of_webhooks_batches_and_uploads() -> None:
    defined = set(re.findall(r"^local (?:function )?(\w+)", TEXTS["read"], re.MULTILINE))

    assert {"position_of", "events_key"} <= defined
    assert not defined & {"post_end", "keep_due", "end_line", "use_upload", "finish", "rate_state"}
