"""A script is sent with the parts that its head names and no others, and is called with the values that it takes."""

import ast
import re
from collections.abc import Iterator
from importlib import resources

import pytest

from penstock.settings import QueueSettings
from penstock.store.scripts import (
    COUNTING,
    FILES,
    PARTS,
    TAKES,
    TEXTS,
    assembled,
    needs_of,
    parts_of,
    takes_of,
    used_in,
)
from penstock.store.submits import call_of
from tests.support.stores import submission

STORE = resources.files("penstock.store")
LUA = STORE / "lua"
SHARED = """
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
    script = "-- drop nothing\n-- takes: id\n-- needs: task.task_key\nreturn redis.call('GET', task_key('drop'))\n"

    text = assembled(script, takes_of("one", script), parts_of(SHARED))

    assert re.findall(r"^local (?:function )?(\w+)", text, re.MULTILINE) == ["ROOT", "key", "task_key", "id"]
    assert text.endswith(f"end\nlocal id = unpack(ARGV)\n{script}")


@pytest.mark.parametrize("name", sorted(TAKES))
def test_the_head_of_a_script_names_the_parts_that_it_uses(name: str) -> None:
    files = {part: file.name for file in (LUA / "parts").iterdir() for part in parts_of(file.read_text())}
    own = {"PRIORITIES": "core", COUNTING: "counting"}

    used = {f"{own.get(part) or files[part].removesuffix('.lua')}.{part}" for part in used_in(FILES[name], PARTS | own)}

    assert set(needs_of(FILES[name])) == used


@pytest.mark.parametrize("name", sorted(TAKES))
def test_an_argument_hides_no_part(name: str) -> None:
    takes = TAKES[name]

    assert not {*takes.names, takes.rest} & PARTS.keys()
    assert len({*takes.names, takes.rest}) == len(takes.names) + 1


def test_the_arguments_of_a_script_get_their_names_from_its_head() -> None:
    text = "-- takes: id\n--        tenant states...\nreturn id\n"

    takes = takes_of("one", text)

    assert takes.code == "local id, tenant, states = ARGV[1], ARGV[2], {unpack(ARGV, 3)}\n"
    assert takes.arguments({"states": ["a", "b"], "tenant": "t", "id": 1}) == [1, "t", "a", "b"]


@pytest.mark.parametrize("values", [{}, {"id": 1, "model": "m"}, {"id": 1, "tenant": "t", "model": "m"}])
def test_a_script_refuses_names_that_it_does_not_take(values: dict[str, str | int]) -> None:
    with pytest.raises(TypeError, match="one takes"):
        takes_of("one", "-- takes: id tenant\nreturn id\n").arguments(values)


def test_every_call_of_a_script_names_exactly_what_it_takes() -> None:
    calls = [call for file in sorted(STORE.iterdir(), key=str) for call in calls_in(file)]

    differing = [
        (script, names) for script, names in calls if names != {*TAKES[script].names, TAKES[script].rest} - {None}
    ]
    assert differing == []
    assert {script for script, _ in calls} == TAKES.keys()


def calls_in(file: resources.abc.Traversable) -> Iterator[tuple[str, set[str]]]:
    """Each call of a script in a file of the store, with the names that it gives."""
    tree = ast.parse(file.read_text()) if file.name.endswith(".py") else ast.Module([], [])
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name), args=[ast.Constant(value=str(script)), *_]):
                if name.startswith("run"):
                    yield script, set(names_in(node, tree))


def names_in(call: ast.Call, tree: ast.Module) -> Iterator[str]:
    """The keywords of a call, and the keys of the dicts that it spreads or lists."""
    yield from (keyword.arg for keyword in call.keywords if keyword.arg)
    values = [*call.args[1:], *(keyword.value for keyword in call.keywords if not keyword.arg)]
    for name in (value.id for value in values if isinstance(value, ast.Name)):
        values += [one.value for one in assignments(tree, name) if one.value]
    for value in values:
        for found in ast.walk(value):
            if isinstance(found, ast.Dict):
                yield from (key.value for key in found.keys if isinstance(key, ast.Constant))
            elif isinstance(found, ast.Call) and getattr(found.func, "id", "") == "call_of":
                yield from names_of_a_submit()


def assignments(tree: ast.Module, name: str) -> list[ast.Assign | ast.AnnAssign]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and any(
            isinstance(target, ast.Name) and target.id == name
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        )
    ]


def names_of_a_submit() -> list[str]:
    return list(call_of(submission(), QueueSettings(), 0, is_stored=True))


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


@pytest.mark.parametrize("name", sorted(TAKES))
def test_a_script_that_changes_fields_writes_them_when_it_is_over(name: str) -> None:
    has_end = TEXTS[name].endswith("local answer = answer_of_script()\nwrite_fields()\nreturn answer")

    assert has_end == ("set_field(" in TEXTS[name])


def test_reading_a_task_sends_nothing_of_webhooks_batches_and_uploads() -> None:
    defined = set(re.findall(r"^local (?:function )?(\w+)", TEXTS["read"], re.MULTILINE))

    assert {"position_of", "events_key"} <= defined
    assert not defined & {"post_end", "keep_due", "end_line", "use_upload", "finish", "rate_state"}
