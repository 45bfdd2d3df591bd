"""The quotas in force of every tenant, as this process holds them in memory: no request asks Redis for them."""

from collections.abc import Mapping

from penstock.core.quotas import OwnQuotas, Quotas
from penstock.settings import QuotaSettings

NOTHING_OWN: OwnQuotas = {}


class QuotaTable:
    """Says what each tenant may use: by the settings, and over them by what administrators have set."""

    def __init__(self, settings: QuotaSettings) -> None:
        self._settings = settings
        self._of_all = settings.changed_by({})
        self.take({})

    def take(self, own: Mapping[str, OwnQuotas]) -> None:
        """Go by these quotas from now on, which administrators have set for single tenants."""
        self._own = own
        self._of = {tenant: self._settings.of(tenant).changed_by(self.own(tenant)) for tenant in self.tenants}

    def of(self, tenant: str) -> Quotas:
        """Return what this tenant may use now."""
        return self._of.get(tenant, self._of_all)

    def own(self, tenant: str) -> OwnQuotas:
        """Return what an administrator has set for this tenant."""
        return self._own.get(tenant, NOTHING_OWN)

    @property
    def tenants(self) -> set[str]:
        """The tenants for which anything is set."""
        return {*self._settings.tenants, *self._own}
