"""Readers of untrusted bytes on made-up inputs: what they must not raise, and what must be true of what they accept.

    python -m tools.fuzz [--runs 20000 | --seconds 60] [--target url,png] [--seed 7] [--corpus DIR]
    python -m tools.fuzz --nightly                          a million runs of each target
    python -m tools.fuzz --short                            all targets in 20 s
    python -m tools.fuzz --replay fuzz-faults/url-0123abcd  one input, with its traceback

Each target runs in a process of its own: first on inputs of Hypothesis, then on those of atheris (`pip install -e
'.[fuzz]'`) where it is installed, else of a mutator of valid inputs. An input may take 5 s of a processor and 64 MiB,
and a process may grow by 128 MiB. What fails is written into a file, and printed with the command that runs it again.
The exit status is 1 when anything fails, or a target accepts all of its inputs, or none.
"""

import argparse
import math
import os
import random
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from tools.fuzz.engines import Engine, Order, atheris_is_installed, by_atheris, by_mutation
from tools.fuzz.runner import corpus_at, run
from tools.fuzz.target import Target
from tools.fuzz.watch import MIB, Summary

RUNS, NIGHTLY, SHORT = 20_000, 1_000_000, 600
ENGINES: dict[str, Engine] = {"mutations": by_mutation, "atheris": by_atheris}
READERS = ("penstock", "multipart", "tomllib")
"""The packages in which atheris looks for new code."""
FAULTS = Path("fuzz-faults")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the targets and print a line for each; return the exit status."""
    options = _options(arguments)
    targets = _targets(is_instrumented=options.engine == "atheris" and not options.replay)
    if options.replay:
        return replay(options.replay, targets)
    chosen = [one for one in targets if not options.target or one.name in options.target.split(",")]
    seconds = options.seconds or math.inf
    runs = sys.maxsize if options.seconds else options.runs
    print(f"hypothesis, then {options.engine}; seed {options.seed}; {os.cpu_count()} cores", flush=True)
    with corpus_at(options.corpus) as corpus:
        order = Order(options.seed, runs, seconds, corpus)
        is_right = [_show(one, run(one, ENGINES[options.engine], order, options.faults)) for one in chosen]
    return 0 if is_right and all(is_right) else 1


def replay(file: Path, targets: Sequence[Target]) -> int:
    """Run one input, whose file is named after its target; return the exit status."""
    target = next((one for one in targets if one.name == file.name.rpartition("-")[0]), None)
    if target is None:
        print(f"{file.name} is not named after a target, such as {targets[0].name}-0123abcd", file=sys.stderr)
        return 2
    try:
        print(f"{target.name}: {target.check(file.read_bytes())}")
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        return 1
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--runs", type=int, default=RUNS, help="inputs of each target [20,000]")
    length.add_argument("--seconds", type=float, help="the time of each target")
    length.add_argument("--nightly", dest="runs", action="store_const", const=NIGHTLY, help="a million runs")
    length.add_argument("--short", action="store_true", help="few runs, always the same")
    parser.add_argument("--target", help="names of targets, such as url,png [all]")
    parser.add_argument("--engine", choices=ENGINES, help="[atheris where it is installed]")
    parser.add_argument("--seed", type=int, help="the same seed makes the same inputs, but for atheris [random]")
    parser.add_argument("--corpus", type=Path, help="keep inputs that reach something new, and begin with them")
    parser.add_argument("--faults", type=Path, default=FAULTS, help="the directory for inputs that fail [fuzz-faults]")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input")
    options = parser.parse_args(arguments)
    if options.short:
        options.runs, options.engine, options.seed = SHORT, options.engine or "mutations", options.seed or 1
    options.engine = options.engine or ("atheris" if atheris_is_installed() else "mutations")
    options.seed = random.randrange(2**31) if options.seed is None else options.seed
    return options


def _targets(*, is_instrumented: bool) -> Sequence[Target]:
    """The targets; their code counts for atheris what it reaches, if it is imported so."""
    if not is_instrumented:
        from tools.fuzz.table import TARGETS

        return TARGETS
    import atheris

    with redirect_stderr(StringIO()), atheris.instrument_imports(include=list(READERS)):
        from tools.fuzz.table import TARGETS

        return TARGETS


def _show(target: Target, summary: Summary) -> bool:
    """Print how a target went; return whether all is right."""
    is_both = 0 < summary.accepted < summary.runs
    is_right = is_both and not summary.faults
    share = summary.accepted / max(1, summary.runs)
    print(
        f"{'ok' if is_right else 'FAIL':4} {target.name:10} {summary.runs:>9,} runs {share:4.0%} accepted "
        f"{len(summary.outcomes):>4} outcomes {summary.took_s:>6.1f} s {summary.grew_bytes / MIB:>+4.0f} MiB",
        flush=True,
    )
    for fault in summary.faults:
        print(f"     {fault.what}\n     just fuzz --replay {fault.file}", flush=True)
    if not summary.faults and not is_both:
        print("     the target must both accept and refuse, or it shows nothing")
    return is_right


if __name__ == "__main__":
    sys.exit(main())
