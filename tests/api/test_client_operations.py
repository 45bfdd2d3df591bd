"""The Python client can do what the API can: its methods reach each operation of the OpenAPI document, say each member
of a request, and give each member of an answer."""

import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import httpx._transports.default as transports
import msgspec
import pytest

from penstock import AsyncClient, PenstockApiError
from penstock.client import key_views, model_views, operator_views, record_views, requests, usage_views, views
from penstock.client.filters import Filter
from penstock.storage import Storage
from penstock.store import Store
from tests.support.drive import MODEL, URL, complete_with, image

pytestmark = pytest.mark.shared_server

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
FILE = "mask.png"

LEFT_OUT = {
    "discover": "for people and browsers",
    "livez": "for what watches the process",
    "startupz": "for what watches the process",
    "metrics": "for Prometheus",
    "watchTask": "`watch` reads the task instead, which costs an empty 304 while nothing changes",
}
"""Operations that no method calls, and why. Those of Replicate's dialect are for Replicate's clients."""


async def all_of(items: AsyncIterator[object]) -> None:
    async for _ in items:
        pass


TASK, BATCH, KEY = "tsk_" + "0" * 32, "bat_" + "0" * 32, "0" * 16
ACTS: tuple[Callable[[AsyncClient], Awaitable[object]], ...] = (
    lambda client: client.readiness(),
    lambda client: client.quote(URL, MODEL),
    lambda client: all_of(client.list()),
    lambda client: client.log(TASK),
    lambda client: client.explain(TASK),
    lambda client: client.cancel(TASK),
    lambda client: client.retry(TASK),
    lambda client: client.delete(TASK),
    lambda client: client.redeliver(TASK),
    lambda client: client.cancel_matching(status=["PENDING"], every=True),
    lambda client: client.retry_matching(status=["FAILED"], every=True),
    lambda client: client.delete_matching(status=["FAILED"], every=True),
    lambda client: client.submit_batch({"one": URL}, MODEL),
    lambda client: all_of(client.batches()),
    lambda client: client.get_batch(BATCH),
    lambda client: client.batch_lines(BATCH),
    lambda client: client.cancel_batch(BATCH),
    lambda client: client.delete_batch(BATCH),
    lambda client: client.redeliver_batch(BATCH),
    lambda client: client.upload(image()),
    lambda client: client.get_upload("upl_" + "0" * 32),
    lambda client: client.delete_upload("upl_" + "0" * 32),
    lambda client: client.models(),
    lambda client: client.model(MODEL),
    lambda client: client.set_default_model(MODEL, "1"),
    lambda client: client.load_model(MODEL),
    lambda client: client.unload_model(MODEL),
    lambda client: client.workers(),
    lambda client: client.drain_worker("w0"),
    lambda client: client.resume_worker("w0"),
    lambda client: client.queues(),
    lambda client: client.pause_queue(MODEL),
    lambda client: client.resume_queue(MODEL),
    lambda client: client.purge_queue(MODEL, dry_run=True),
    lambda client: client.stats(),
    lambda client: client.usage(),
    lambda client: client.server_settings(),
    lambda client: client.create_key("acme"),
    lambda client: client.keys(),
    lambda client: client.key(KEY),
    lambda client: client.rotate_key(KEY),
    lambda client: client.revoke_key(KEY),
    lambda client: client.revoke_tokens("acme"),
    lambda client: client.tenants(),
    lambda client: client.quotas("acme"),
    lambda client: client.set_quotas("acme", {"tasks_running": 4}),
    lambda client: client.reset_quotas("acme"),
    lambda client: all_of(client.audit()),
)


async def test_each_operation_has_a_method(server: str, api_key: str, store: Store, storage: Storage) -> None:
    called: set[str] = set()

    async def note(request: httpx.Request) -> None:
        called.update(operations_at(request.method, request.url.path))

    async with AsyncClient(server, api_key, patience_s=2) as client:
        transport = client._transport
        for connections in (transport._to_server, transport._to_links):
            transport._open(connections).event_hooks = {"request": [note]}
        task_id = (await client.submit(URL, MODEL)).task_id
        await complete_with(store, storage, {"result.png": image(), FILE: image(9)})
        await client.result(task_id)
        await client.result(task_id, FILE)
        for act in ACTS:
            with suppress(PenstockApiError):  # there is no such task; the operation was called
                await act(client)

    assert called.isdisjoint(LEFT_OUT)
    ours = (op for path, ops in DOCUMENT["paths"].items() if not path.startswith("/replicate/") for op in ops.values())
    assert sorted(called | LEFT_OUT.keys()) == sorted(operation["operationId"] for operation in ours)


def operations_at(method: str, path: str) -> set[str]:
    """The operation at a path: that of the template with the fewest names."""
    matching = [
        (template.count("{"), operations[method.lower()]["operationId"])
        for template, operations in DOCUMENT["paths"].items()
        if method.lower() in operations and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
    ]
    return {min(matching)[1]} if matching else set()


def test_a_list_can_be_filtered_by_all_that_the_api_knows() -> None:
    parameters = DOCUMENT["paths"]["/v1/tasks"]["get"]["parameters"]

    known = {parameter["name"] for parameter in parameters} - {"cursor", "limit", "tenant"}
    assert known == Filter.__annotations__.keys()


SAID = {
    "SuperresX4Request": (requests.Options, {"retry": "max_attempts", "model": "", "input": ""}),
    "BatchLine": (requests.Shared, {"retry": "max_attempts", "model": "", "input": "", "custom_id": ""}),
    "OutputRequest": (requests.Output, {}),
    "LinksRequest": (requests.LinkOptions, {}),
    "WebhookRequest": (requests.WebhookOptions, {}),
    "BatchWebhookRequest": (requests.BatchWebhookOptions, {}),
}
"""The options that say a request, and what the client calls otherwise, or takes as arguments of their own."""


@pytest.mark.parametrize("schema", SAID)
def test_each_member_of_a_request_is_an_option(schema: str) -> None:
    options, otherwise = SAID[schema]

    named = {otherwise.get(name, name) for name in SCHEMAS[schema]["properties"]} - {""}
    assert named == options.__annotations__.keys()


def test_each_member_of_a_batch_is_an_option() -> None:
    own = requests.BatchOptions.__annotations__.keys() - requests.Shared.__annotations__.keys()

    named = {requests.OF_A_BATCH.get(name, name) for name in own}
    assert named | {"defaults", "lines", "upload_id"} == SCHEMAS["BatchRequest"]["properties"].keys()


ANSWERS: dict[str, type[msgspec.Struct]] = {
    "TaskView": views.Task,
    "SubmittedView": views.Submitted,
    "ResultView": views.Result,
    "ResultFileView": views.ResultFile,
    "AttemptView": views.Attempt,
    "ErrorView": views.Failure,
    "ProgressView": views.Progress,
    "BatchView": views.Batch,
    "CountsView": views.Counts,
    "LineView": views.Line,
    "LineResultView": views.LineResult,
    "QuoteView": record_views.Quote,
    "ExplainView": record_views.Explanation,
    "BlockerView": record_views.Blocker,
    "AheadView": record_views.Ahead,
    "UploadView": record_views.StoredUpload,
    "SettingsView": record_views.ServerSettings,
    "WorkerStatusView": operator_views.Worker,
    "RunningView": operator_views.Running,
    "MemoryView": operator_views.Memory,
    "QueueView": operator_views.Queue,
    "StatsView": operator_views.Stats,
    "ModelView": model_views.Model,
    "VersionView": model_views.Version,
    "MemberView": model_views.Member,
    "ModelList": model_views.ModelList,
    "KeyView": key_views.Key,
    "NewKeyView": key_views.NewKey,
    "TenantView": key_views.Tenant,
    "TenantQuotasView": key_views.TenantQuotas,
    "AuditView": key_views.AuditEntry,
    "TenantUsageView": usage_views.TenantUsage,
    "UsageView": usage_views.Used,
    "UsageDayView": usage_views.UsedOnDay,
    "HeldView": usage_views.Held,
}
NOT_GIVEN = {("TaskView", "links"), ("BatchView", "links"), ("BatchView", "defaults")}
"""Links are methods here, and whoever reads a batch has said its defaults."""


@pytest.mark.parametrize("schema", ANSWERS)
def test_each_member_of_an_answer_is_given(schema: str) -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(ANSWERS[schema])}

    missing = SCHEMAS[schema]["properties"].keys() - fields
    assert {(schema, name) for name in missing} <= NOT_GIVEN


async def test_a_quote_says_what_a_submit_would_lead_to(server: str, api_key: str) -> None:
    async with AsyncClient(server, api_key) as client:
        quote = await client.quote(image(8, 6), MODEL, priority="high")
        tasks = [task async for task in client.list()]

    assert quote.input is not None
    assert quote.output is not None
    assert (quote.priority, quote.input.width, quote.output.height, tasks) == ("high", 8, 24, [])


async def test_a_purge_can_be_counted_before(server: str, api_key: str) -> None:
    async with AsyncClient(server, api_key) as client:
        for _ in range(3):
            await client.submit(URL, MODEL, reuse=False)
        counted = [await client.purge_queue(MODEL, dry_run=dry_run) for dry_run in (True, False, True)]

    assert counted == [3, 3, 0]


async def test_what_is_said_of_a_batch_and_of_its_lines_arrives(server: str, api_key: str, store: Store) -> None:
    said: Any = {
        "batch_metadata": {"album": "42"},
        "metadata": {"of": "lines"},
        "batch_ttl_s": 600,
        "result_ttl_s": 700,
    }
    async with AsyncClient(server, api_key) as client:
        batch = await client.submit_batch({"one": URL}, MODEL, client_request_id="b-1", **said)
        again = await client.submit_batch({"one": URL}, MODEL, client_request_id="b-1", **said)
        (task,) = [task async for task in client.list(batch_id=batch.batch_id)]

    assert (again.batch_id, batch.metadata, task.metadata) == (batch.batch_id, {"album": "42"}, {"of": "lines"})


@pytest.mark.shared_server(False)
async def test_a_token_in_place_of_a_key_reads_its_task_and_no_other(
    server: str, api_key: str, store: Store, storage: Storage, tmp_path: Path
) -> None:
    async with AsyncClient(server, api_key) as owner:
        submitted = await owner.submit(URL, MODEL, links={"token": True})
        other = await owner.submit(URL, MODEL, reuse=False)
    await complete_with(store, storage, {"result.png": image(), FILE: image(9)})
    async with AsyncClient(server, token=submitted.token, patience_s=2) as reader:
        waited = await reader.wait(submitted.task_id)
        seen = [task.status async for task in reader.watch(submitted.task_id)]
        result = await reader.result(submitted.task_id)
        files = await reader.download_all(submitted.task_id, tmp_path)
        refused = [
            await code_of(act)
            for act in (reader.get(other.task_id), reader.cancel(submitted.task_id), reader.submit(URL, MODEL))
        ]

    assert (waited.status, seen, result) == ("SUCCESS", ["SUCCESS"], image())
    assert [path.name for path in files] == ["result.png", FILE]
    assert refused == ["unauthorized"] * 3


async def code_of(act: Awaitable[object]) -> str:
    with pytest.raises(PenstockApiError) as refused:
        await act
    return refused.value.code


async def test_a_client_of_this_machine_reads_no_certificates_before_a_link_leads_elsewhere(
    server: str, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    really = transports.create_ssl_context

    def noted(**options: Any) -> ssl.SSLContext:
        made.append(options["verify"])
        return really(**options)

    monkeypatch.setattr(transports, "create_ssl_context", noted)

    async with AsyncClient(server, api_key) as client:
        await client.models()
        assert made == [False]
        client._transport._open(client._transport._to_links)
    assert made == [False, True]
