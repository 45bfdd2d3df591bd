"""The models that are served, as the API answers them."""

from typing import cast

from penstock.api.routes import models
from penstock.api.schemas.models import ModelList, ModelView
from penstock.api.services import Services


async def served(services: Services) -> ModelList:
    """Return the models, and what no worker can serve."""
    return cast(ModelList, await models.list_models.fn(services=services))


async def described(name: str, services: Services) -> ModelView:
    """Return one model, or one of its versions as `name@version`. Raises ModelNotFound, NotReady."""
    return cast(ModelView, await models.read_model.fn(name=name, services=services))


def is_in_code(name: str, services: Services) -> bool:
    """Return whether a model is a part of its workers, which have it as long as they run. Raises ModelNotFound."""
    return not services.models.find(name).versioned
