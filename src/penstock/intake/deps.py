"""What the intake works with.

The API extends it by what only the API needs; a test, or another way in, may make one without any HTTP.
"""

import asyncio

from msgspec import Struct

from penstock.core.quotas import Quotas
from penstock.intake.estimates import Estimates
from penstock.intake.models import WatchedCatalogue
from penstock.intake.quotas import QuotaTable
from penstock.net.guard import Policy
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Store
from penstock.store.caps import EVERYBODY


class Deps(Struct, frozen=True, kw_only=True, eq=False):
    """The settings, the store and the policies that a submit needs, opened and closed by whoever runs the intake.

    `models` are those that are served. `policy` decides which URLs of inputs are allowed, `webhook_policy` which
    URLs of webhooks.
    """

    settings: Settings
    models: WatchedCatalogue
    policy: Policy
    webhook_policy: Policy
    store: Store
    storage: Storage
    estimates: Estimates
    quotas: QuotaTable
    checking: asyncio.Lock
    """Held for a slice of work on the lines of a batch: however many are checked, requests wait for one slice."""

    def quotas_of(self, tenant: str) -> Quotas:
        """Return what this tenant may use now."""
        return self.quotas.of(tenant)

    def running_caps(self) -> dict[str, int]:
        """Return how many tasks each tenant with quotas of its own may run, and under EVERYBODY any other tenant."""
        return {tenant: self.quotas.of(tenant).tasks_running for tenant in (EVERYBODY, *self.quotas.tenants)}
