"""The former name of `penstock.models.noop`, for settings that have it."""

from penstock.models.noop import *  # noqa: F403  registers its model
