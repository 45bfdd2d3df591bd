"""The stack with the proxy for clients elsewhere: `compose.tls.yaml` on top, by a line of .env.

Its name is `localhost`, for which Caddy has a CA of its own. Ports 80 and 443 of this machine must be free.
"""

import ssl

import httpx
import pytest

from tests.containers.own_models import MODEL
from tests.containers.stack import Stack, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

SITE = "localhost"


def test_clients_come_by_tls_once_two_lines_of_env_say_so(stack: Stack) -> None:
    env = stack.checkout / ".env"
    before = env.read_text()
    env.write_text(f"{before}\nCOMPOSE_FILE=compose.yaml:deploy/compose.tls.yaml\nSITE={SITE}\n")
    stack.start()
    root = eventually(
        lambda: stack.compose("exec", "-T", "proxy", "cat", "/data/caddy/pki/authorities/local/root.crt"),
        lambda certificate: "BEGIN CERTIFICATE" in certificate,
    )

    headers = {"Authorization": stack.client.headers["Authorization"]}
    trusted = ssl.create_default_context(cadata=root)
    with httpx.Client(base_url=f"https://{SITE}", headers=headers, verify=trusted) as client:
        eventually(lambda: client.get("/readyz"), lambda answer: answer.is_success)
        task = {"model": MODEL, "input": {"name": "any"}, "reuse": False}
        answer = client.post("/v1/tasks", json=task, headers={"Prefer": "wait=60"})
        plain = httpx.get(f"http://{SITE}/v1/models")

    assert answer.json()["status"] == "SUCCESS"
    assert answer.headers["location"].startswith(f"https://{SITE}/v1/tasks/tsk_")
    assert (plain.status_code, plain.headers["location"]) == (308, f"https://{SITE}/v1/models")
    env.write_text(before)
    stack.start()
