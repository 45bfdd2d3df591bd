"""just contract --cases 10000: fuzz until so many requests were sent, with another seed each time."""

import argparse
import tempfile
from pathlib import Path

from tests.contract.fuzz import fuzz, server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--max-examples", type=int, default=100, help="of each operation, in each phase of a run")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sent, seed = 0, options.seed
    with tempfile.TemporaryDirectory() as directory, server(Path(directory)) as system:
        while sent < options.cases:
            sent += fuzz(system, max_examples=options.max_examples, seed=seed)
            print(f"{sent} requests up to seed {seed}, all answered as described", flush=True)
            seed += 1


main()
