"""Replicate's Python client behind TLS, where an output of any size is a file object."""

import io
from pathlib import Path

import pytest
import replicate
from replicate.helpers import FileOutput

from tests.support.processes import up
from tests.support.tls_front import tls_front
from tests.system.test_replicate_unchanged import REF, noise, size_of

pytestmark = pytest.mark.at_length


async def test_a_large_output_is_a_file_object_behind_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_front(tmp_path) as front, up(tmp_path / "up", PENSTOCK_API_PUBLIC_URL=front.url) as system:
        front.behind = system.url
        monkeypatch.setenv("SSL_CERT_FILE", str(front.authority))
        client = replicate.Client(api_token=system.api_key, base_url=f"{front.url}/replicate")

        with io.BytesIO(noise()) as image:
            output = client.run(REF, input={"image": image, "variant": "clean"})

        assert isinstance(output, FileOutput)
        assert output.url.startswith(f"{front.url}/replicate/v1/predictions/")
        assert size_of(output.read()) == (960, 720)
        assert size_of(await output.aread()) == (960, 720)
        assert (await client._async_client.head(output.url)).headers["content-type"] == "image/png"
        client._client.close()
        await client._async_client.aclose()
