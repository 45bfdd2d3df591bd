"""How busy would a GPU be, and how many cores does that take?

    python -m tools.device_model [--cards H100,T4] [--result png] [--seconds 60] [--slowed 6] [--slots 16] [--cores 32]
                                 [--ram 8] [--codecs 230,240] [--json FILE] [--before FILE] [--plot FILE] [--short]

Real workers serve photos of mixed sizes from a real Redis. The device, its copies and the codecs are stand-ins that
sleep, slowed by one factor so that our own code has the cores of this machine to itself; so do threads that cut tiles
and take outputs in, for as long as their work would take on a slowed core. Cores are CPU seconds × factor ÷ seconds.
"""

import argparse
import os
import sys
from pathlib import Path

import msgspec
import uvloop
from msgspec.structs import replace
from rich.console import Console

from tools.device_model import codec_rates, plot, table
from tools.device_model.cards import CARDS, GB, Card
from tools.device_model.report import Report, report
from tools.device_model.simulation import Run, simulated

OWN_CORES_FOR_MPX = 0.05
"""About how many cores our code needs for each megapixel a second of the device."""

CORES_HERE = 0.5
"""How many cores of this machine our code should take: some are left for Redis, and for what else runs."""

SHORT = {"cards": "H100", "slowed": 2.0, "seconds": 3.0, "ramp": 3.0, "lock": False}


def main() -> None:
    """Simulate the cards one after the other, and print what was found."""
    options = arguments()
    console = Console(highlight=False, width=80)
    load = os.getloadavg()[0]
    stated, result = options.codecs, options.result
    rates = codec_rates.stated(stated, result) if stated else codec_rates.measured(result)
    console.print(
        f"{os.cpu_count()} cores, load average before {load:.2f}; "
        f"a core decodes {rates.decode_mp_per_s:.0f} and encodes {rates.encode_mp_per_s:.0f} MP/s"
    )
    reports = []
    for card in chosen(options.cards, cores=options.cores, ram_gb=options.ram):
        run = Run(
            card=card,
            rates=rates,
            slowed=options.slowed or slowed_for(card),
            result=options.result,
            seconds=options.seconds,
            ramp_s=options.ramp,
            slots=options.slots,
            lock=options.lock,
        )
        reports.append(report(uvloop.run(simulated(run))))
        console.print(table.details(reports[-1]))
    console.print(table.overview(reports))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(reports), indent=1) + b"\n")
    if options.plot:
        before = msgspec.json.decode(options.before.read_bytes(), type=list[Report]) if options.before else []
        plot.draw(reports, before, options.plot)
    sys.exit(any(one.failed for one in reports))


def arguments() -> argparse.Namespace:
    """The options; those of --short are put over the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cards", default="all", help=f"some of {', '.join(CARDS)} [all]")
    parser.add_argument("--result", choices=("jpeg", "png", "webp"), default="jpeg")
    parser.add_argument("--seconds", type=float, default=60, help="of this machine, for each card [60]")
    parser.add_argument("--ramp", type=float, default=15, help="seconds before that, which do not count [15]")
    parser.add_argument("--slowed", type=float, help="the factor [by the card]")
    parser.add_argument("--slots", type=int, default=0, help="the setting worker.slots [its default]")
    parser.add_argument("--cores", type=int, help="cores of the host for each card [by the card]")
    parser.add_argument("--ram", type=float, help="GB for the tasks of each worker, really taken here [by the card]")
    parser.add_argument("--codecs", help="MP/s that a core decodes and encodes, as 230,240 [measured]")
    parser.add_argument("--no-lock", dest="lock", action="store_false", help="do not look at the interpreter's lock")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--before", type=Path, help="figures of an earlier run, to be drawn beside these")
    parser.add_argument("--plot", type=Path, help="draw the figures, as PNG or SVG")
    parser.add_argument(
        "--short", action="store_true", help="some seconds of one H100, for a check that all of it runs"
    )
    options = parser.parse_args()
    if options.short:
        vars(options).update(SHORT)
    return options


def chosen(names: str, *, cores: int | None, ram_gb: float | None) -> list[Card]:
    """The cards with these names, on hosts with so many cores and so much memory for each."""
    cards = list(CARDS.values()) if names == "all" else [CARDS[name.strip()] for name in names.split(",")]
    other = {"cores": cores, "ram_bytes": ram_gb and int(ram_gb * GB)}
    return [replace(card, **{name: value for name, value in other.items() if value}) for card in cards]


def slowed_for(card: Card) -> float:
    """The factor with which our code takes about CORES_HERE of this machine; at least 1."""
    return max(1.0, round(card.mpx_per_s * card.count * OWN_CORES_FOR_MPX / CORES_HERE, 1))


if __name__ == "__main__":
    main()
