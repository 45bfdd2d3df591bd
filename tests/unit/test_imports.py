"""What a process loads, because what it does not load costs it neither time nor memory."""

import subprocess
import sys

import pytest

API = """
import asyncio, sys
import penstock.cli.main
from penstock.api.app import create_app
from penstock.api import serve
from penstock.settings import ApiSettings, Settings
from penstock.storage import open_storage

async def main():
    settings = Settings(api=ApiSettings(keys=("a-key-only-for-the-tests",), docs="on"))
    create_app(settings).openapi_schema.to_schema()
    async with open_storage(settings.storage, "penstock"):
        print(*sys.modules)

asyncio.run(main())
"""

PACKAGE = "import sys, penstock; print(*sys.modules); penstock.Client; assert 'httpx' in sys.modules"

HELP = """
import sys
from penstock.cli.main import cli
cli.main(["--help"], standalone_mode=False)
assert "submit" in cli.commands
print(*sys.modules)
"""

WORKER = """
import asyncio, sys
from penstock.settings import Settings
from penstock.storage import open_storage
from penstock.worker import process
from penstock.worker.fetch import Fetcher

async def main():
    settings = Settings()
    async with open_storage(settings.storage, "penstock"), Fetcher(settings.limits):
        print(*sys.modules)

asyncio.run(main())
"""

OF_NO_IMAGES = """
import sys
import penstock.cli.main
from penstock.models import load_runners
from penstock.settings import ModelSettings
from penstock.worker import process

load_runners(ModelSettings(modules=("penstock.models.noop",), serve=("noop-v1",)))
print(*sys.modules)
"""

PARENT = "import sys, penstock.cli.main, penstock.local.up; print(*sys.modules)"


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        pytest.param(
            API,
            "onnxruntime aioboto3 botocore aiohttp arq numpy PIL simplejpeg isal httpx rich",
            id="the API with local storage",
        ),
        pytest.param(
            API,
            "pydantic attr yaml.nodes jwt.api_jwt cryptography.hazmat jsonschema_rs penstock.cli.client penstock.local",
            id="the API, of what its libraries could do",
        ),
        pytest.param(
            API,
            "penstock.models.base penstock.models.description penstock.models.scoring penstock.models.superres "
            "penstock.models.tiling penstock.models.onnxruntime penstock.runners",
            id="the API, which knows models by what workers publish",
        ),
        pytest.param(
            API, "htpy markupsafe penstock.api.console.router", id="the API, until somebody looks at the console"
        ),
        pytest.param(PACKAGE, "httpx click rich litestar msgspec asyncio", id="the package itself"),
        pytest.param(HELP, "httpx rich litestar redis numpy onnxruntime importlib.metadata", id="the help"),
        pytest.param(
            WORKER,
            "onnxruntime aiohttp botocore litestar httpx rich",
            id="a worker with local storage that fetches no URL",
        ),
        pytest.param(
            OF_NO_IMAGES,
            "numpy PIL simplejpeg isal onnxruntime jwt.api_jwt cryptography.hazmat penstock.cli.client "
            "penstock.pixels.decoding penstock.pixels.encoding penstock.models.scoring penstock.models.superres "
            "penstock.models.tiling penstock.models.declared.runner",
            id="a worker of a model that takes no image",
        ),
        pytest.param(
            PARENT,
            "onnxruntime numpy PIL litestar redis opentelemetry importlib.metadata penstock.cli.client",
            id="the parent of all",
        ),
    ],
)
def test_a_process_loads_no_library_that_it_does_not_use(program: str, unwanted: str) -> None:
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stderr
    loaded = set(finished.stdout.split())
    assert "sys" in loaded
    assert loaded & set(unwanted.split()) == set()
