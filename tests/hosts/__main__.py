"""`python -m tests.hosts --scenario N1 --seed 7` runs scenarios between hosts, prints their figures and fails when
a bar is missed. It needs root, iproute2 and /dev/net/tun.

Without arguments it runs all of them in their small size.
"""

import sys

from tests.chaos.runner import Ring, main
from tests.hosts.machines import CannotMakeHosts, check
from tests.hosts.scenarios import SCENARIOS, SHORT
from tests.hosts.site import site

if __name__ == "__main__":
    try:
        check()
    except CannotMakeHosts as reason:
        sys.exit(str(reason))
    sys.exit(main(Ring("tests.hosts", __doc__ or "", SCENARIOS, SHORT, site)))
