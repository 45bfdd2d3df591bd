"""What the exceptions of a model's code mean for its tasks."""

import socket
from collections.abc import Callable

import pytest

from penstock.errors import ImageTooLarge, ModelError, ModelUnavailable, PenstockError
from penstock.models.base import DeviceBroken, Interrupted
from penstock.worker.model_code import model_code, model_error


def raised_by(act: Callable[[], None]) -> BaseException:
    with pytest.raises(BaseException) as found, model_code("infer"):  # noqa: PT011  any of them
        act()
    return found.value


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def wrapped_by_a_library() -> None:
    try:
        raise ConnectionRefusedError(111, "Connection refused")
    except OSError as error:
        raise RuntimeError("max retries exceeded") from error


def raised_while_one_was_handled() -> None:
    try:
        raise TimeoutError
    except TimeoutError:
        raise LookupError("no answer")  # noqa: B904  as libraries do


def told_apart_by_the_model() -> None:
    try:
        raise ConnectionResetError
    except ConnectionResetError:
        raise ValueError("the service knows no such input") from None


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(3), OSError(2, "no such file"), KeyError("x")])
def test_an_exception_of_a_model_is_a_model_error_that_names_its_class_alone(error: BaseException) -> None:
    found = raised_by(raising(error))

    assert isinstance(found, ModelError)
    assert (found.code, found.retryable, found.__cause__) == ("model_error", False, error)
    assert type(error).__name__ in found.detail
    assert "infer" in found.detail
    assert "secret" not in found.detail


@pytest.mark.parametrize("name", ["Bad\r\nX: y", "\x1b[2J", "Bild ü", "N" * 10_000])
def test_the_name_of_a_class_is_a_short_part_of_one_line(name: str) -> None:
    detail = str(model_error("infer", type(name, (Exception,), {})()))

    assert detail.isprintable()
    assert len(detail) < 200


@pytest.mark.parametrize(
    "act",
    [
        raising(ConnectionResetError()),
        raising(TimeoutError()),
        raising(MemoryError()),
        raising(socket.gaierror(-3, "Temporary failure in name resolution")),
        raising(OSError(101, "Network is unreachable")),
        wrapped_by_a_library,
        raised_while_one_was_handled,
    ],
)
def test_a_model_error_is_retried_when_another_attempt_may_not_meet_it(act: Callable[[], None]) -> None:
    found = raised_by(act)

    assert isinstance(found, ModelError)
    assert (found.code, found.retryable) == ("model_error", True)


def test_an_error_that_the_model_raised_from_none_is_judged_alone() -> None:
    found = raised_by(told_apart_by_the_model)

    assert isinstance(found, ModelError)
    assert not found.retryable


@pytest.mark.parametrize("error", [ImageTooLarge("40 megapixels"), DeviceBroken("error 700"), Interrupted()])
def test_the_errors_of_the_contract_pass(error: Exception) -> None:
    assert raised_by(raising(error)) is error


def test_a_model_that_cannot_be_loaded_here_may_be_elsewhere() -> None:
    error: PenstockError = ModelUnavailable("x@2: its check failed")

    assert (error.code, error.status, error.retryable) == ("model_unavailable", 503, True)
