"""The checks of `doctor --gpu`: what is expected of their figures, and what a check leaves behind that ends early."""

import math
from collections.abc import Callable
from pathlib import Path
from string import Formatter

import pytest

from penstock.core.device import Device
from penstock.gpu_checks.expectations import EXPECTATIONS, estimate_for
from penstock.gpu_checks.machine import ask_tool
from penstock.gpu_checks.measures.run import MEASURES
from penstock.gpu_checks.process import figures_of, measure
from penstock.gpu_checks.table import ALL_WITHIN_S, CHECKS
from penstock.gpu_checks.verdicts import Expectation, Figures, Verdict, judge
from penstock.settings import Settings
from penstock.worker.devices import Placement

FASTER = Expectation(
    check="speed",
    figure="*_speedup",
    at_least=1.8,
    found="{name} is {value:.1f} of {wanted}",
    advice="raise the {wanted}",
    source="made up",
)
SMALL = Expectation(check="speed", figure="held_mib", at_most=100, otherwise="fail", found="", advice="", source="")
PLAIN = Expectation(check="speed", figure="mode", equal="Default", found="{value}", advice="", source="")
PLACE = Placement(device=Device(name="cuda:0", kind="cuda", threads=1, sides=(128,), batches=(1,)), environment={})


def verdict(*sentences: str, **figures: object) -> Verdict:
    return judge("speed", sentences, figures, (FASTER, SMALL, PLAIN))


# --- tables -------------------------------------------------------------------------------------------------------


def test_all_checks_together_are_done_within_ten_minutes() -> None:
    assert ALL_WITHIN_S < 600


def test_every_check_is_measured_and_every_expectation_is_about_a_check() -> None:
    assert list(MEASURES) == list(CHECKS)
    assert {expected.check for expected in EXPECTATIONS} <= set(CHECKS)


@pytest.mark.parametrize("expected", EXPECTATIONS, ids=lambda e: f"{e.check} {e.figure}")
def test_an_expectation_has_one_bound_an_advice_and_a_source(expected: Expectation) -> None:
    bounds = (expected.at_least, expected.at_most, expected.equal)

    assert sum(bound is not None for bound in bounds) == 1
    assert expected.found
    assert expected.advice
    assert expected.source
    list(Formatter().parse(expected.found + expected.advice))


def test_sentences_are_templates_of_figures() -> None:
    for check in CHECKS.values():
        for sentence in check.sentences:
            assert [name for _, name, _, _ in Formatter().parse(sentence) if name], sentence


@pytest.mark.parametrize(
    ("card", "least"),
    [
        ("Tesla T4", 2.5),
        ("NVIDIA L4", 3),
        ("NVIDIA A10", 4.5),
        ("NVIDIA H100 80GB HBM3", 27.5),
        ("NVIDIA H100-PCIE", 27.5),
    ],
)
def test_a_card_that_was_estimated_is_known_by_its_name(card: str, least: float) -> None:
    assert (estimate_for(card) or ())[0] == least


@pytest.mark.parametrize("card", ["NVIDIA A100-SXM4-80GB", "NVIDIA L40S", "Quadro T400", ""])
def test_a_card_that_was_not_estimated_is_not_taken_for_another(card: str) -> None:
    assert estimate_for(card) is None


# --- verdicts -----------------------------------------------------------------------------------------------------


def test_figures_within_their_bounds_are_ok() -> None:
    assert verdict("{held_mib} MiB", fp16_speedup=1.8, held_mib=100, mode="Default") == Verdict(
        state="ok", found=("100 MiB",), misses=()
    )


def test_a_figure_beyond_its_bound_says_what_it_is_and_what_to_change() -> None:
    found = verdict(fp16_speedup=1.0, wanted="tensor cores")

    assert (found.state, len(found.misses)) == ("warn", 1)
    assert found.misses[0].found == "fp16 is 1.0 of tensor cores"
    assert found.misses[0].advice == "raise the tensor cores"


def test_the_state_is_the_worst_of_what_was_missed() -> None:
    assert verdict(fp16_speedup=1.0, held_mib=101).state == "fail"
    assert verdict(fp16_speedup=1.0, mode="Exclusive").state == "warn"


def test_many_figures_beyond_one_bound_are_told_at_once() -> None:
    misses = verdict(fp16_speedup=1.0, fp8_speedup=0.5, wanted=2).misses

    assert [miss.found for miss in misses] == ["fp16 is 1.0 of 2; also fp8"]


def test_what_says_all_is_not_followed_by_its_effects() -> None:
    broken = Expectation(
        check="speed", figure="is_on", equal=True, otherwise="fail", says_all=True, found="off", advice="", source=""
    )

    found = judge("speed", (), {"is_on": False, "held_mib": 101}, (FASTER, broken, SMALL))

    assert [miss.found for miss in found.misses] == ["off"]


def test_no_number_is_beyond_every_bound() -> None:
    assert verdict(fp16_speedup=math.nan).state == "warn"
    assert verdict(held_mib=math.nan).state == "fail"


@pytest.mark.parametrize("figures", [{}, {"fp16_speedup": "none"}, {"held_mib": None}])
def test_what_was_not_measured_is_not_judged(figures: Figures) -> None:
    assert verdict(**figures).state == "ok"


def test_a_sentence_without_its_figures_is_left_out() -> None:
    assert verdict("{held_mib:.0f} MiB", "{absent_s:.1f} s", "{mode:.1f}", held_mib=1, mode="Default").found == (
        "1 MiB",
    )


def test_a_check_that_ended_early_keeps_what_it_had_and_fails() -> None:
    found = verdict("{held_mib} MiB", held_mib=7, error="DeviceBroken: CUDA failure 719")

    assert (found.state, found.found) == ("fail", ("7 MiB",))
    assert found.misses[-1].found == "DeviceBroken: CUDA failure 719"


def test_what_penstock_warned_of_is_a_warning() -> None:
    assert [miss.found for miss in verdict(warnings=["fp16 cannot be used"]).misses] == ["fp16 cannot be used"]


def test_a_check_with_nothing_to_check_is_skipped() -> None:
    assert verdict("{held_mib}", held_mib=1, skipped="no fp16 file") == Verdict(
        state="skipped", found=("no fp16 file",), misses=()
    )


# --- processes ----------------------------------------------------------------------------------------------------


def test_lines_of_libraries_are_no_figures() -> None:
    assert figures_of(b'{"a_s": 1}\ncuDNN says hello\n[1]\n{"b_s": 2}\n{"c') == {"a_s": 1, "b_s": 2}


def test_a_check_that_cannot_run_says_why() -> None:
    figures = measure(CHECKS["copies"], PLACE, Settings()).figures

    assert "CUDAExecutionProvider" in str(figures["error"]) or "cuda:0" in str(figures["error"])


def test_a_check_that_hangs_is_ended_at_its_limit() -> None:
    measured = measure(CHECKS["stages"]._replace(limit_s=0), PLACE, Settings())

    assert "limit" in str(measured.figures["error"])
    assert measured.seconds < 30


# --- the tool of the driver ---------------------------------------------------------------------------------------


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a program nvidia-smi of these lines of a shell."""

    def make(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return make


def test_fields_that_the_driver_does_not_know_are_left_out(tool: Callable[[str], None]) -> None:
    tool('echo "GPU-a, 150.00, [N/A]"')

    known = ask_tool(["uuid", "power.limit", "ecc.mode.current"]).fields

    assert known == {"uuid": "GPU-a", "power.limit": "150.00"}


def test_a_tool_that_fails_is_quoted(tool: Callable[[str], None]) -> None:
    tool('echo "Failed to initialize NVML: Driver/library version mismatch"; exit 18')

    assert "status 18" in ask_tool(["uuid"]).why
    assert "version mismatch" in ask_tool(["uuid"]).why


def test_rows_count_where_the_tool_warns_of_something_else(tool: Callable[[str], None]) -> None:
    tool('echo "GPU-a, 8.6"; echo "WARNING: infoROM is corrupted"; exit 14')

    assert ask_tool(["uuid", "compute_cap"]).fields == {"uuid": "GPU-a", "compute_cap": "8.6"}


def test_a_machine_without_the_tool_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "nvidia-smi is neither on the PATH" in ask_tool(["uuid"]).why
