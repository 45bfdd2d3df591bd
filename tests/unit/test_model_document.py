"""`model.toml`: what is wrong is said in one line with the member's path, and what is written is read again."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.models.declared.definition import Definition
from penstock.models.declared.document import InvalidModel, document, parse_definition, paths, to_toml

LEAST = f'schema = 1\nkind = "image-to-labels"\nfile = "a.onnx"\nsha256 = "{"a" * 64}"\n'
TILED = (
    LEAST.replace("labels", "image") + '[input]\nresize = "none"\n[output]\nscale = 2\n[tiles]\nallowed = "supported"\n'
)


def refusal(text: str) -> str:
    with pytest.raises(InvalidModel) as refused:
        parse_definition(text.encode())
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "model.toml: schema is missing"),
        (LEAST.replace("schema = 1", "schema = 2"), "model.toml: schema 2 is not known; this version reads schema = 1"),
        (LEAST + "[input]\nrnge = '0-1'\n", "model.toml: input.rnge is not a member; did you mean input.range?"),
        (
            LEAST + "[input]\nrange = '0-2'\n",
            "model.toml: input.range cannot be '0-2'; it is one of 0-1, -1-1, 0-255",
        ),
        (
            LEAST.replace("a.onnx", "../a.onnx"),
            "model.toml: file must be the name of a file beside model.toml, not '../a.onnx'",
        ),
        (
            LEAST.replace("a.onnx", "/etc/passwd"),
            "model.toml: file must be the name of a file beside model.toml, not '/etc/passwd'",
        ),
        (
            LEAST + "[output]\nlabels = '../names.txt'\n",
            "model.toml: output.labels must be names, or the name of a file beside model.toml, not '../names.txt'",
        ),
        (LEAST.replace("a" * 64, "A"), "model.toml: sha256 must be 64 hexadecimal digits, not 'A'"),
        (
            LEAST + "[input]\nmean = [1, 2]\n",
            "model.toml: input.mean takes one number, or 3: one for each channel",
        ),
        (LEAST + "[input]\nstd = [0.0]\n", "model.toml: input.std must not be 0: it divides"),
        (LEAST + "[input]\nmean = [nan]\n", "model.toml: input.mean must be a finite number"),
        (
            LEAST + "[input]\ncolour = 'grey'\n",
            "model.toml: input.colour grey has 1 channels, not 3: say RGB, BGR",
        ),
        (
            LEAST + "[input]\nresize = 'pad'\n",
            "model.toml: input.multiple_of is missing: input.resize = pad needs it",
        ),
        (LEAST + "[guessed]\ncolour = 'why'\n", "model.toml: [guessed] has 'colour', which is not a member"),
        (
            TILED + "overlap_px = 192\n",
            "model.toml: tiles.overlap_px: without tiles.ladder it is less than 192, half the tile of a CPU",
        ),
        (TILED + "overlap_px = 192\nladder = [384]\n", "model.toml: tiles.ladder: no side is longer than two overlaps"),
        (
            LEAST + f"[[tensors]]\nname = 'x'\nshape = {[1] * 60_000}\n",
            "model.toml: tensors[0].shape: expected `array` of length <= 32",
        ),
        (LEAST + "[params]\n" + "a." * 40 + "a = 1", "model.toml: [params] is nested more than 32 levels deep"),
        (LEAST + "[params]\nx = 1979-05-27\n", "model.toml: [params] has 1979-05-27, which is no value of JSON"),
        (LEAST + "[params]\nx = {y = [1, nan]}\n", "model.toml: [params] has nan, which is no value of JSON"),
        (LEAST + "[params.x]\ny = 0x8000000000000000\n", "model.toml: it has an integer of more than 64 bits"),
        (LEAST.replace("schema = 1", "schema = 0x" + "f" * 5000), "model.toml: it has an integer of more than 64 bits"),
        (
            LEAST + "[check.params]\nx = 07:32:00\n",
            "model.toml: [check.params] has 07:32:00, which is no value of JSON",
        ),
        ("a." * 5000 + "a = 1", "model.toml: it has more than 4096 dots; long texts belong in a text file beside it"),
        ("a = " + "[" * 5000, "model.toml: it is nested too deeply"),
        ("#" * 300_000, "model.toml: it has more than 256 KiB; long labels belong in a text file beside it"),
    ],
)
def test_a_wrong_member_is_refused_with_its_path_and_what_it_may_be(text: str, line: str) -> None:
    assert refusal(text) == line


def test_a_document_is_refused_in_one_line_whatever_stands_in_it() -> None:
    rng = random.Random(7)
    lines = []
    for _ in range(300):
        data = bytearray((LEAST + "[input]\nsize = [1, 2]\n[output]\nlabels = ['a', 'b']\n").encode())
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            parse_definition(bytes(data[: rng.choice((len(data), rng.randrange(len(data))))]))
        except InvalidModel as error:
            lines.append(str(error))

    assert len(lines) > 200
    assert [line for line in lines if not line.isprintable() or len(line) > 400] == []


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=12,
    )
)
def test_params_come_back_as_they_were_written(value: object) -> None:
    text = LEAST + f"[params]\nx = {{default = {to_toml(value)}}}\n"

    assert parse_definition(text.encode()).params == {"x": {"default": value}}


def test_members_stand_in_the_order_of_the_schema_with_notes_and_guesses() -> None:
    tree = msgspec.to_builtins(parse_definition(LEAST.encode())) | {"schema": 1}
    tree |= {
        "input": {"mean": [104, 117.5, 123], "layout": "NHWC"},
        "guessed": {"input.range": "files do not say"},
        "tensors": [{"name": "ids", "dtype": "int64", "shape": [1, "n"]}],
        "data": {"a.onnx.data": "b" * 64},
        "params": {"top_k": {"maximum": 3}},
    }
    definition = msgspec.convert(tree, Definition)

    written = document(definition, {"input.layout": "the graph's input is 224 x 224 x 3"})

    assert written == (
        LEAST + '\n[input]\nlayout = "NHWC"  # the graph\'s input is 224 x 224 x 3\nrange = "0-1"\n'
        'mean = [104.0, 117.5, 123.0]\n\n[[tensors]]\nname = "ids"\ndtype = "int64"\nshape = [1, "n"]\n\n'
        f'[data]\n"a.onnx.data" = "{"b" * 64}"\n\n'
        '[params]\ntop_k = {maximum = 3}\n\n[guessed]\n"input.range" = "files do not say"\n'
    )
    assert parse_definition(written.encode()) == definition


def test_every_member_of_the_schema_has_a_path() -> None:
    assert {"kind", "input.range", "tiles.allowed", "run.warm", "check.answer"} <= set(paths())
