"""`model.toml`: what stands in it becomes a definition, or is refused in one line."""

from penstock.models.declared.definition import Definition
from penstock.models.declared.document import TABLES, InvalidModel, document, parse_definition, paths, values_of
from tools.fuzz.target import ACCEPTED, refusal

LEAST = f'schema = 1\nkind = "image-to-labels"\nfile = "a.onnx"\nsha256 = "{"a" * 64}"\n'
LONGEST_LINE = 600
_TILED = (
    LEAST.replace("labels", "image") + '[input]\nresize = "none"\n[output]\nscale = 2\n[tiles]\nallowed="supported"'
)
_TENSORS = LEAST.replace("image-to-labels", "tensors") + '[[tensors]]\nname = "x"\nshape = [1, "n", 3]\n'

DOCUMENTS = tuple(
    text.encode()
    for text in (
        LEAST,
        LEAST
        + "[input]\nsize = [224, 224]\nmean = [0.1, 0.2, 0.3]\nstd = [1]\n[output]\nlabels = ['a', 'b']\ntop_k = 3\n",
        _TILED,
        _TENSORS,
        LEAST + "[params]\ntop_k = {type = 'integer', maximum = 3}\n[check]\ninput = 'a.png'\nanswer = 'a.json'\n",
        LEAST
        + "[params.x]\na = [1, 2.5, true, 'x']\n[guessed]\n'input.range' = 'why'\n[data]\n'a.b' = '"
        + "b" * 64
        + "'",
        LEAST
        + '[run]\nprecision = "fp32"\nmax_batch = 8\nkeep_alive_s = 1e3\n[half]\nfile = "b.onnx"\ntolerance = 0.1\n',
    )
)
MEMBERS = tuple(f"{path} = ".encode() for path in paths())
LINES = tuple(f'{path} = "{word}"\n'.encode() for path, hint in paths().items() for word in values_of(hint))
NUMBERS = tuple(
    f"{path} = {value}\n".encode()
    for path, hint in paths().items()
    for value in ("3", "0.5", "[1, 2]", "[0.5]", "true", '"a"', "['a', 'b']")
    if not values_of(hint) and path not in TABLES
)
TOML_WORDS = (
    *MEMBERS, *LINES, *NUMBERS, b"\n", b"[", b"]", b"[[", b"]]", b"{", b"}", b"=", b".", b",", b"#", b'"', b"'", b'"""',
    b"\\u0000", b"\\ud800", b"\\U0010ffff", b"\\", b"nan", b"-inf", b"1e400", b"0x1f", b"1_0", b"9" * 40, b"true",
    b"1979-05-27", b"1979-05-27T07:32:00-08:00", b"07:32:00", b"../a", b"/etc/passwd", b"[params]\n", b"[guessed]\n",
    b"[[tensors]]\n", b"[input]\n", b"[check]\n", b"[data]\n", b"a.a.a.a.a.a.a.a = 1\n", b"[" * 60, b"{a=" * 40,
    b"a = " + b"[" * 1500, b"0x" + b"f" * 4000,
)  # fmt: skip


def check_of_model_toml(data: bytes) -> str:
    """A definition that is read comes back as it was from the document that it makes."""
    try:
        definition = parse_definition(data)
    except InvalidModel as error:
        line = str(error)
        assert line.startswith("model.toml: ")
        assert line.isprintable(), ascii(line)
        assert len(line) <= LONGEST_LINE
        return refusal(error)
    assert isinstance(definition, Definition)
    assert parse_definition(document(definition).encode()) == definition
    return ACCEPTED
