"""Writes what Prometheus and Grafana load that is made from tables.

`python -m tools.observe` replaces the generated groups at the end of deploy/alerts.yml, and writes the dashboards;
tests/unit/test_observe.py compares them with the tables.
"""

from pathlib import Path

import yaml

from tools.observe import grafana, slos
from tools.observe.boards import DASHBOARDS

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "alerts.yml"
MARK = "  # From here on written by python -m tools.observe, from the table in tools/observe/slos.py.\n"


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as one, so that an expression is readable."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def files() -> dict[Path, str]:
    """Return the text of each file that is written."""
    boards = {DEPLOY / f"grafana/dashboards/{one.uid}.json": grafana.text_of(one, DASHBOARDS) for one in DASHBOARDS}
    return {ALERTS: _alerts(), **boards}


def _alerts() -> str:
    by_hand = ALERTS.read_text().partition(MARK)[0].rstrip("\n") + "\n\n"
    written = yaml.dump(slos.groups(), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return by_hand + MARK + "".join(f"  {line}\n" if line else "\n" for line in written.splitlines())


def main() -> None:
    for path, text in files().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
