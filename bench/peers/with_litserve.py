"""Peer: LitServe around the pipeline, one worker; what waits together and is alike shares a call.

`python -m bench.peers.with_litserve --port PORT --folder FOLDER [--batch N]`
"""
# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The library is in no requirement of ours but the extra "bench".

from collections.abc import Sequence
from typing import Any

import litserve
from PIL.Image import Image

from bench.peers.asked import WAIT_SECONDS, asked
from bench.peers.painting import Document, Wish, answer, loaded, painted_in_groups


class Painter(litserve.LitAPI):
    """Up to so many requests in one call."""

    def __init__(self, folder: str, **how: Any) -> None:
        super().__init__(api_path="/images/generations", **how)
        self._folder = folder

    def setup(self, device: str) -> None:
        """In the worker, before the first request."""
        self._pipe = loaded(self._folder)

    def decode_request(self, request: Document, **_: object) -> Wish:
        return Wish.of(request)

    def predict(self, x: Any, **_: object) -> Any:
        """A wish, or a list of them where several may come at once."""
        several: Sequence[Wish] = x if isinstance(x, list) else [x]
        images = painted_in_groups(self._pipe, several)
        return images if isinstance(x, list) else images[0]

    def encode_response(self, output: Image, **_: object) -> Document:
        return answer(output)


def main() -> None:
    """Serve."""
    given = asked()
    waits = {"batch_timeout": WAIT_SECONDS} if given.batch > 1 else {}
    api = Painter(given.folder, max_batch_size=given.batch, **waits)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=600)
    server.run(host="127.0.0.1", port=given.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
