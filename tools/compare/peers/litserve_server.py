"""The peer with LitServe, which answers a request with its result and keeps nothing: `… litserve_server PORT`."""

import sys
from typing import Any

import litserve

from tools.compare.peers.work import Body, work_of_environment


class Served(litserve.LitAPI):
    """One worker process, with the defaults of LitServe."""

    def setup(self, device: str) -> None:
        """Loads the network."""
        self.work = work_of_environment()

    def decode_request(self, request: Body) -> Body:
        """Returns the members of the request."""
        return request

    def predict(self, body: Body) -> dict[str, Any]:
        """Runs a task."""
        return self.work(body)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer in the shape that all compared servers give."""
        return {"task_id": "", "status": "SUCCESS", "result": output}


if __name__ == "__main__":
    server = litserve.LitServer(Served(api_path="/v1/tasks"), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="error",
        access_log=False,
    )
