"""/v1/settings: the settings of the process that answers, without secrets."""

import re
from typing import Any

import msgspec
from litestar import get

from penstock import __version__
from penstock.api.http.scopes import OPERATE
from penstock.api.schemas.operators import SettingsView
from penstock.api.services import ServicesDep
from penstock.settings import SECRETS, Settings

USER_OF_URL = re.compile(r"//[^/@\s]*@")


@get(
    "/settings",
    operation_id="readSettings",
    tags=["operation"],
    opt=OPERATE,
    summary="The settings of the server",
    description="Every setting of the process that answers, by section and name. Secrets, and the URL of Redis, which "
    "may have one, are left out. Workers have settings of their own where they were started with others.",
)
async def read_settings(services: ServicesDep) -> SettingsView:
    """Shows what is in force, and not what a file says."""
    return SettingsView(version=__version__, settings=shown(services.settings))


def shown(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the settings by section and name, without those that may have a secret, and without users in URLs."""
    return {
        section: {name: _shown(value) for name, value in values.items() if (section, name) not in SECRETS}
        for section, values in msgspec.to_builtins(settings).items()
    }


def _shown(value: Any) -> Any:
    return USER_OF_URL.sub("//", value) if isinstance(value, str) else value
