"""What a simulated worker is told."""

from msgspec import Struct

from tools.device_model.cards import Card
from tools.device_model.codec_rates import CodecRates

NAME = "simulated-superres"
MODULE = "tools.device_model.runner"
VARIABLE = "DEVICE_MODEL"
"""The environment variable with the plan as JSON."""


class Plan(Struct, frozen=True, kw_only=True):
    """All times of the device and of the codecs are `slowed` times as long; `record` is the path of the record."""

    card: Card
    rates: CodecRates
    slowed: float
    record: str
