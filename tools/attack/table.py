"""All attempts of the hostile session, in their order. A new one is a row here."""

from tools.attack import bodies, connections
from tools.attack.attempt import Attempt

ATTEMPTS: tuple[Attempt, ...] = (
    *bodies.attempts(),
    Attempt("headers that never end", connections.slow_heads),
    Attempt("bodies that never end", connections.endless_bodies),
    Attempt("refused bodies that never end", connections.late_rests),
    Attempt("silent connections", connections.silent),
)
