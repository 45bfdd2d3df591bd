"""`just contract --cases 10000` fuzzes until this many requests were sent, in runs with different seeds."""

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

from tests.contract.fuzz import fuzz, server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="fewest requests to send [10000]")
    parser.add_argument("--max-examples", type=int, default=40, help="for each operation in each phase [40]")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run [1]")
    options = parser.parse_args()
    sent = findings = 0
    with tempfile.TemporaryDirectory() as directory, server(Path(directory)) as system:
        for seed in itertools.count(options.seed):
            started = time.monotonic()
            run = fuzz(system, max_examples=options.max_examples, seed=seed)
            took_s = time.monotonic() - started
            sent, findings = sent + run.sent, findings + run.findings
            if run.findings:
                print(run.report)
            print(f"seed {seed}: {run.sent} cases in {took_s:.0f} s; {sent} in all, {findings} findings", flush=True)
            if sent >= options.cases:
                break
    sys.exit(min(findings, 1))


main()
