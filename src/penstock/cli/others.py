"""The commands that a person calls and that end soon: all but those that run servers."""

from penstock.cli import (
    admin,
    client,
    config,
    keys,
    matching,
    tasks,
    tenants,
    try_model,
    usage,
    webhooks,
    workers_queues,
)
from penstock.cli.batch import group as batch
from penstock.cli.models import group as models
from penstock.cli.top import command as top
from penstock.cli.uploads import group as uploads

COMMANDS = (
    *client.COMMANDS,
    *tasks.COMMANDS,
    *top.COMMANDS,
    *batch.COMMANDS,
    *uploads.COMMANDS,
    *webhooks.COMMANDS,
    try_model.try_model,
    *models.COMMANDS,
    *matching.COMMANDS,
    *workers_queues.COMMANDS,
    *usage.COMMANDS,
    *keys.COMMANDS,
    *tenants.COMMANDS,
    *config.COMMANDS,
    *admin.COMMANDS,
)
