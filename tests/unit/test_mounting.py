"""What an API does not do again when it is made."""

from collections.abc import Iterator

import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from penstock.api.app import create_app
from penstock.api.routes import tasks
from penstock.settings import ApiSettings, Settings

SETTINGS = Settings(api=ApiSettings(keys=("a-key-only-for-the-tests",)))


@pytest.fixture
def app() -> Litestar:
    return create_app(SETTINGS)


def submits(app: Litestar) -> Iterator[HTTPRouteHandler]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            yield from (handler for handler in route.route_handlers if handler.fn is tasks.submit.fn)


def test_a_handler_is_parsed_once_however_often_it_is_mounted(app: Litestar) -> None:
    (here,), (there,) = submits(app), submits(create_app(SETTINGS))

    assert here is not there
    assert here.parsed_fn_signature is there.parsed_fn_signature is tasks.submit.parsed_fn_signature


def test_two_apis_of_a_process_share_no_handler(app: Litestar) -> None:
    assert not {*map(id, submits(app))} & {*map(id, submits(create_app(SETTINGS)))}
    assert all(handler.owner.owner is app for handler in submits(app))
