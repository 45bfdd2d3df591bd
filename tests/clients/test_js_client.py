"""The npm package of `clients/js`: its types are the document's, it does its work against a real server that is killed
meanwhile, others can use it under the strictest checks, and what its README shows runs."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import __version__
from penstock.settings import StorageSettings
from tests.clients.programs import DOCUMENT, HERE, JS, NODE, NPM, PHOTO, ROOT, TSC, run
from tests.support import pages
from tests.support.processes import System, up

pytestmark = pytest.mark.clients

EXAMPLES = [
    block.code
    for page in (JS / "README.md", ROOT / "docs/how-to/other-languages.md")
    for block in pages.blocks(page.read_text())
    if block.language == "js" and block.word != "not run"
]


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a program in Node has to know of a server that it may kill, with a model that takes its time."""
    settings = {
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "tests.support.slow_model",
        "PENSTOCK_LIMITS_ALLOW_NETWORKS": "127.0.0.0/8",
        "PENSTOCK_WEBHOOKS_ALLOW_HTTP": "true",
    }
    data_dir = tmp_path_factory.mktemp("up")
    with up(data_dir, **settings) as system:
        yield environ_of(system, data_dir)


def environ_of(system: System, data_dir: Path) -> dict[str, str]:
    return {
        "PENSTOCK_URL": system.url,
        "PENSTOCK_API_KEY": system.api_key,
        "PENSTOCK_UP_PID": str(system.process.popen.pid),
        "PENSTOCK_PHOTO": str(PHOTO),
        "WEBHOOK_SECRET": (data_dir / "webhook-secret").read_text().strip(),
    }


@pytest.fixture(scope="module")
def consumer(packages: Path, built: Path) -> Path:
    """The folder of somebody who has installed the package."""
    folder = packages / "consumer"
    shutil.copytree(JS / "test" / "consumer", folder)
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    (archive,) = json.loads(run(*NPM, "pack", "--json", "--ignore-scripts", cwd=built))
    run(*NPM, "install", "--offline", "--no-audit", "--no-fund", built / archive["filename"], cwd=folder)
    shutil.copy(PHOTO, folder)
    return folder


def described(folder: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((folder / "package.json").read_text())
    return said


def test_it_has_the_version_of_the_server_no_dependencies_and_the_tools_that_are_tested() -> None:
    package, tools = described(JS), described(HERE)["dependencies"]

    assert package["version"] == __version__
    assert "dependencies" not in package
    assert package["devDependencies"].items() <= tools.items()


def test_its_types_are_those_of_the_document(built: Path) -> None:
    run(*NODE, "generate.mjs", DOCUMENT, "made.ts", cwd=built)

    made = (built / "made.ts").read_text()
    assert made == (JS / "src/schema.ts").read_text(), "run `npm run generate` in clients/js"


@pytest.fixture(scope="module")
def tested(packages: Path, built: Path) -> Path:
    """The folder of the package with its compiled tests."""
    run(*NODE, packages / TSC, "-p", "test", cwd=built)
    return built


@pytest.mark.parametrize("name", sorted(path.stem for path in JS.glob("test/*.test.ts")))
def test_it_does_its_work_also_while_the_server_is_killed(tested: Path, environ: dict[str, str], name: str) -> None:
    run(*NODE, "--test", f"out/{name}.js", cwd=tested, **environ)


@pytest.mark.parametrize("platform", ["node", "browser"])
def test_others_use_all_of_it_under_the_strictest_checks(packages: Path, consumer: Path, platform: str) -> None:
    run(*NODE, packages / TSC, "-p", f"{platform}.json", cwd=consumer)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_its_pages_runs(consumer: Path, environ: dict[str, str], number: int) -> None:
    (consumer / "example.mjs").write_text(EXAMPLES[number])

    run(*NODE, "example.mjs", cwd=consumer, **environ)


WITH_A_BUCKET = """
import { openAsBlob } from "node:fs";
import { Penstock, sendUpload } from "penstock-client";
const redirected = [];
const penstock = new Penstock({ fetch: async (to, how) => {
  const answer = await fetch(to, how);
  if (answer.redirected) redirected.push(new URL(answer.url).host);
  return answer;
} });
const file = new Blob([await openAsBlob("photo.jpg"), new Uint8Array(3e6)]);
const told = [];
const upload = await penstock.upload(file, { onProgress: (sent) => told.push(sent) });
const request = { model: "slow-v1", input: upload, params: { product: "a small and a large file" } };
const { task_id } = await penstock.run(request);
const { size } = await penstock.result(task_id, { name: "large.bin" });
const opened = await penstock.call("openUpload", { body: { size: file.size } });
const forged = { ...opened, url: opened.url.replace("X-Amz-Signature=", "X-Amz-Signature=0") };
const { code, detail } = await sendUpload(forged, file).catch((error) => error);
console.log(JSON.stringify({ steps: told.length, sent: told.at(-1), redirected, size, code, detail }));
"""


def test_a_bucket_takes_its_uploads_gives_its_results_and_says_why_not(
    consumer: Path, tmp_path: Path, s3_server: StorageSettings
) -> None:
    settings = {
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "tests.support.slow_model",
        "PENSTOCK_REDIS_NAMESPACE": "npm-on-s3",
        "PENSTOCK_STORAGE_LOCAL": "false",
        "PENSTOCK_STORAGE_S3_ENDPOINT": s3_server.s3_endpoint,
        "PENSTOCK_STORAGE_S3_BUCKET": s3_server.s3_bucket,
        "PENSTOCK_STORAGE_S3_ACCESS_KEY": s3_server.s3_access_key,
        "PENSTOCK_STORAGE_S3_SECRET_KEY": s3_server.s3_secret_key,
    }
    (consumer / "bucket.mjs").write_text(WITH_A_BUCKET)
    with up(tmp_path / "up", **settings) as system:
        said = json.loads(run(*NODE, "bucket.mjs", cwd=consumer, **environ_of(system, tmp_path / "up")))

    bucket = s3_server.s3_endpoint.partition("//")[2]
    assert (said["steps"] > 2, said["sent"], said["size"]) == (True, PHOTO.stat().st_size + 3_000_000, 4_000_000)
    assert said["redirected"] == [bucket]
    assert (said["code"], said["detail"]) == ("http_403", f"{bucket} answered 403 SignatureDoesNotMatch")
