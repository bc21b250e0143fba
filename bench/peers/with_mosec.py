"""Peer: Mosec around the pipeline, one worker; what waits together and is alike shares a call.

`python -m bench.peers.with_mosec --port PORT --folder FOLDER [--batch N]`
"""
# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The library is in no requirement of ours but the extra "bench".

import os
import sys
from typing import Any

from mosec import Runtime, Server, Worker

from bench.peers.asked import WAIT_SECONDS, asked
from bench.peers.painting import Document, Wish, answer, loaded, painted_in_groups

FOLDER = "LIMNER_BENCH_FOLDER"  # workers are processes that know no arguments


class Painter(Worker):
    """Paints what comes together; a list if it may be several."""

    def __init__(self) -> None:
        super().__init__()
        self._pipe = loaded(os.environ[FOLDER])

    def forward(self, data: Any) -> Any:
        """From the body or bodies to the answer or answers."""
        together: list[Document] = data if isinstance(data, list) else [data]
        images = painted_in_groups(self._pipe, [Wish.of(each) for each in together])
        answers = [answer(image) for image in images]
        return answers if isinstance(data, list) else answers[0]


def main() -> None:
    """Serve."""
    given = asked()
    os.environ[FOLDER] = given.folder
    # Mosec reads what is left of the command line by itself.
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(given.port), "--timeout", "600000"]
    server, waits = Server(), round(WAIT_SECONDS * 1000) if given.batch > 1 else 0
    painter = Runtime(Painter, num=1, max_batch_size=given.batch, max_wait_time=waits, timeout=600)
    server.register_runtime({"/images/generations": [painter]})
    server.run()


if __name__ == "__main__":
    main()
