"""Runs a model in this process, as a worker would, and checks whether it keeps the contract of a runner."""

from penstock.conformance.kit import conformance
from penstock.conformance.report import ConformanceReport

__all__ = ["ConformanceReport", "conformance"]
