"""Deprecated name of `penstock.models.noop`."""

from penstock.models.noop import *  # noqa: F403  registers its model
