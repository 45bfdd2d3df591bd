"""Texts that only we can make: cursors of lists, tokens of tasks, managed keys."""

from penstock.api.http.cursors import Cursors
from penstock.core.access_keys import checksum, presented_key
from penstock.core.task_tokens import TaskTokens
from penstock.errors import InvalidRequest
from tools.fuzz.target import ACCEPTED, refusal, text_of

WORDS = (
    b"=", b"==", b"-", b"_", b"+", b"/", b"A", b"\n", b" ", b"pk_", b"tt_", b"0" * 32, "é".encode(), b"\xff", b"\0",
)  # fmt: skip

_CURSORS = Cursors(lambda: b"a secret of this installation")
_OTHERS = Cursors(lambda: b"a secret of another one")
MOMENTS = (0, 1, 1_700_000_000_000_000, 2**62)
WRITTEN = frozenset(_CURSORS.write(moment, "a") for moment in MOMENTS)
FOREIGN = (_CURSORS.write(1, "b"), _CURSORS.write(1, ""), _OTHERS.write(1, "a"))
CURSORS = tuple(text.encode() for text in (*sorted(WRITTEN), *FOREIGN))

NOW_S, TASK = 1_700_000_000, "tsk_a"
_TOKENS = TaskTokens(b"a secret of this installation", {"ended": 3})
OPEN = frozenset(
    (_TOKENS.write(TASK, "a", expires_s=NOW_S + 1), _TOKENS.write(TASK, "ended", expires_s=2**40)),
)
SHUT = (
    _TOKENS.write(TASK, "a", expires_s=NOW_S),
    _TOKENS.write("tsk_b", "a", expires_s=NOW_S + 1),
    TaskTokens(b"a secret of this installation", {}).write(TASK, "ended", expires_s=2**40),
    TaskTokens(b"a secret of another one", {}).write(TASK, "a", expires_s=NOW_S + 1),
)
TOKENS = tuple(text.encode() for text in (*sorted(OPEN), *SHUT))

_HEADS = (b"pk_abcdefghijkl_" + b"Z" * 32, b"pk_000000000000_" + b"09azAZ" * 5 + b"aa")
KEYS = tuple(head + checksum(head).encode() for head in _HEADS)


def check_of_cursor(data: bytes) -> str:
    """Only what was written for this tenant is read, and it is what was written."""
    text = text_of(data)
    for tenant in ("b", ""):
        assert text in FOREIGN or isinstance(_read(text, tenant), InvalidRequest)
    moment = _read(text, "a")
    if isinstance(moment, InvalidRequest):
        assert text not in WRITTEN
        return refusal(moment)
    assert text in WRITTEN
    assert moment in MOMENTS
    assert _CURSORS.write(moment, "a") == text
    return ACCEPTED


def check_of_token(data: bytes) -> str:
    """Only a token that was written for this task opens it, in its time and generation."""
    text = text_of(data)
    tenant = _TOKENS.tenant_of(text, TASK, now_s=NOW_S)
    assert (tenant is not None) == (text in OPEN)
    if tenant is None:
        return "no token"
    assert tenant in ("a", "ended")
    assert _TOKENS.tenant_of(text, f"{TASK} ", now_s=NOW_S) is None
    assert _TOKENS.tenant_of(text, TASK, now_s=2**41) is None
    return ACCEPTED


def check_of_key(data: bytes) -> str:
    """A text with the form of a managed key has its checksum, and an id that can be part of a key in Redis."""
    found = presented_key(data)
    if found is None:
        assert data not in KEYS
        return "no key"
    assert found.id.isascii()
    assert found.id.isalnum()
    assert data == data[:-6] + checksum(data[:-6]).encode()
    return ACCEPTED


def with_checksum(data: bytes) -> bytes:
    """Return a text with the checksum that a managed key would have in its place."""
    return data[:-6] + checksum(data[:-6]).encode()


def _read(text: str, tenant: str) -> int | InvalidRequest:
    try:
        return _CURSORS.read(text, tenant)
    except InvalidRequest as error:
        return error
