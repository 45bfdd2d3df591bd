"""What the messages of a loader mean to a person, and which cards the wheel has code for."""

import pytest

from penstock.models.onnxruntime.identity import MACHINE_CODE, has_code_for
from penstock.models.onnxruntime.libraries import loaded_library, said_plainly


@pytest.mark.parametrize(
    ("library", "advice"),
    [
        ("libcuda.so.1", "the NVIDIA driver is not visible here"),
        ("libcudnn.so.9", "install cuDNN 9"),
        ("libcudnn_graph.so.9", "install cuDNN 9"),
        ("libcublasLt.so.13", "install the libraries of CUDA 13"),
        ("libcudart.so.13", "install the libraries of CUDA 13"),
    ],
)
def test_a_missing_library_is_named_with_what_to_do(library: str, advice: str) -> None:
    said = said_plainly(f"{library}: cannot open shared object file: No such file or directory")

    assert said.startswith(f"{library} is missing: {advice}")


def test_another_message_of_a_loader_means_nothing_more() -> None:
    assert said_plainly("libx.so.1: undefined symbol: Provider_GetHost") == ""


def test_a_library_of_this_process_is_found_by_its_name_and_another_is_not() -> None:
    found = loaded_library("libc.so")

    assert found is not None
    assert found.endswith("/libc.so.6")
    assert loaded_library("libcudart.so") is None


@pytest.mark.parametrize("card", ["7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "12.0", "12.1"])
def test_code_for_a_card_runs_on_later_ones_of_its_generation(card: str) -> None:
    major, minor = map(int, card.split("."))

    assert has_code_for(major, minor)


@pytest.mark.parametrize("card", ["6.1", "7.0", "7.2", "10.0", "10.3", "11.0"])
def test_there_is_no_code_for_other_cards(card: str) -> None:
    major, minor = map(int, card.split("."))

    assert not has_code_for(major, minor)
    assert (major, minor) not in MACHINE_CODE
