"""What a process loads, because what it does not load costs it neither time nor memory."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("vendor", ["onnxruntime", "aioboto3", "botocore", "aiohttp", "arq", "numpy", "httpx", "rich"])
def test_the_api_with_local_storage_loads_no(vendor: str) -> None:
    program = f"""
import asyncio, sys
from penstock.api.app import create_app
from penstock.api import serve
from penstock.settings import ApiSettings, Settings, StorageSettings
from penstock.storage import open_storage

async def main():
    settings = Settings(api=ApiSettings(keys=("a-key-only-for-the-tests",)))
    create_app(settings).openapi_schema.to_schema()
    async with open_storage(settings.storage, "penstock"):
        assert {vendor!r} not in sys.modules

asyncio.run(main())
"""

    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("vendor", ["httpx", "click", "rich", "litestar", "msgspec", "asyncio"])
def test_the_package_itself_loads_no(vendor: str) -> None:
    program = (
        f"import sys, penstock; assert {vendor!r} not in sys.modules; penstock.Client; assert 'httpx' in sys.modules"
    )

    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("vendor", ["httpx", "rich", "litestar", "redis", "numpy", "onnxruntime"])
def test_the_help_loads_no(vendor: str) -> None:
    program = f"""
import sys
from penstock.cli import cli
cli.main(["--help"], standalone_mode=False)
assert {vendor!r} not in sys.modules
"""

    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stderr
    assert "submit" in finished.stdout


@pytest.mark.parametrize("vendor", ["onnxruntime", "aiohttp", "botocore", "litestar", "httpx", "rich"])
def test_a_worker_with_local_storage_that_fetches_no_url_loads_no(vendor: str) -> None:
    program = f"""
import asyncio, sys
from penstock.settings import Settings
from penstock.storage import open_storage
from penstock.worker import process
from penstock.worker.fetch import Fetcher

async def main():
    settings = Settings()
    async with open_storage(settings.storage, "penstock"), Fetcher(settings.limits):
        assert {vendor!r} not in sys.modules

asyncio.run(main())
"""

    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("vendor", ["onnxruntime", "numpy", "PIL", "litestar", "redis", "opentelemetry"])
def test_the_parent_of_all_loads_no(vendor: str) -> None:
    program = f"import sys, penstock.cli, penstock.up; assert {vendor!r} not in sys.modules"

    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stderr
