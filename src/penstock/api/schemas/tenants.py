"""Tenants and their quotas, as administrators send and read them."""

from msgspec.structs import asdict

from penstock.api.schemas.tasks import ResponseBody
from penstock.core.quotas import QUOTAS, Amount, OwnQuotas, QuotaName, Quotas
from penstock.intake.requests import RequestBody


class QuotasRequest(RequestBody, frozen=True):
    """What a tenant has in place of the quotas of the settings: all that it has, since this replaces what was set
    before. One that is left out is as in the settings; 0 means no limit."""

    requests_per_minute: Amount | None = None
    submits_per_minute: Amount | None = None
    tasks_waiting: Amount | None = None
    tasks_running: Amount | None = None
    redis_bytes: Amount | None = None
    storage_bytes: Amount | None = None
    device_seconds_per_day: Amount | None = None
    batch_lines: Amount | None = None

    def given(self) -> OwnQuotas:
        """Return those that are not left out."""
        return {name: value for name in QUOTAS if (value := getattr(self, name)) is not None}


class QuotasView(ResponseBody, frozen=True):
    """What a tenant may use; 0 means no limit."""

    requests_per_minute: Amount
    submits_per_minute: Amount
    tasks_waiting: Amount
    tasks_running: Amount
    redis_bytes: Amount
    storage_bytes: Amount
    device_seconds_per_day: Amount
    batch_lines: Amount


class TenantQuotasView(ResponseBody, frozen=True):
    """The quotas in force, and in `own` those of them that an administrator has set for this tenant."""

    tenant: str
    quotas: QuotasView
    own: dict[QuotaName, Amount]


class TenantView(ResponseBody, frozen=True):
    """A tenant, the number of its keys that work, and those of its tasks that wait and run."""

    tenant: str
    keys: int
    pending: int
    running: int
    quotas: QuotasView


class TenantList(ResponseBody, frozen=True):
    """Tenants, by name."""

    data: tuple[TenantView, ...]


def quotas_view(quotas: Quotas) -> QuotasView:
    """Return quotas as they are answered."""
    return QuotasView(**asdict(quotas))
