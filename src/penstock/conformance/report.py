"""What the kit has found out about a model: a finding for each check."""

from typing import Literal

from msgspec import Struct

from penstock.models.tracebacks import cause_of

Verdict = Literal["ok", "warn", "fail", "skip"]


class ContractFinding(Struct, frozen=True, kw_only=True):
    """One row of the table, and a line of `--json`: a check, how it ended, and what was seen, in a sentence that says
    what to change where something is wrong. A `warn` is allowed, but users should know of it."""

    check: str
    verdict: Verdict
    seen: str


def raised(error: BaseException) -> str:
    """What the model has raised, in one line with its place; the error itself where it is ours."""
    return cause_of(error.__cause__ or error)


class ConformanceReport(Struct, frozen=True, kw_only=True):
    """What the kit has found out about a model, which took `load_s` to load and warm up."""

    model: str
    load_s: float
    findings: tuple[ContractFinding, ...]

    @property
    def failures(self) -> list[str]:
        """A line for each check that failed; a test asserts that there is none."""
        return [f"{one.check}: {one.seen}" for one in self.findings if one.verdict == "fail"]
