"""`python -m tests.chaos --scenario W1 --seed 7` runs scenarios, prints their figures and fails when a bar is missed.

Without arguments it runs the short form of the scenarios that every change must pass.
"""

import sys

from tests.chaos.runner import Ring, main
from tests.chaos.scenarios import SCENARIOS, SHORT
from tests.chaos.world import World

if __name__ == "__main__":
    sys.exit(main(Ring("tests.chaos", __doc__ or "", SCENARIOS, SHORT, World)))
