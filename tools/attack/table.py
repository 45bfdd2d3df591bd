"""All attempts of the hostile session, in their order. A new one is a row here."""

from tools.attack import bodies, connections, images, keys, requests
from tools.attack.attempt import Attempt

ATTEMPTS: tuple[Attempt, ...] = (
    Attempt("other forms of a path", requests.odd_paths),
    Attempt("methods of no route", requests.odd_methods),
    Attempt("hosts that cannot be", requests.odd_hosts),
    Attempt("two messages in one", requests.smuggled),
    Attempt("wrong keys", keys.wrong_keys),
    *bodies.attempts(),
    Attempt("scan bombs", images.scan_bombs),
    Attempt("headers that never end", connections.slow_heads),
    Attempt("bodies that never end", connections.endless_bodies),
    Attempt("refused bodies that never end", connections.late_rests),
    Attempt("silent connections", connections.silent),
)
