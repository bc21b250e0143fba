"""Peer: one shared pipeline, and for each request a copy of it with a scheduler of its own.

The idea of diffusers' server example: requests are awaited, and painted side by side in threads.
`python -m bench.peers.scoped --port PORT --folder FOLDER`
"""

import asyncio
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI

from bench.peers.asked import asked
from bench.peers.painting import Document, Wish, answer, loaded, painted
from bench.peers.painting import scoped as own_copy


class OneAtATime:
    """A tokenizer that threads take turns with; it is not made for several at once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._turn = threading.Lock()

    def __call__(self, *said: Any, **how: Any) -> Any:
        with self._turn:
            return self._tokenizer(*said, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def build(folder: str) -> FastAPI:
    """The application."""
    app, pipe = FastAPI(), loaded(folder)
    pipe.tokenizer = OneAtATime(pipe.tokenizer)

    def paint(wish: Wish) -> Document:
        (image,) = painted(own_copy(pipe), [wish])
        return answer(image)

    @app.post("/images/generations")
    async def generations(body: Document) -> Document:
        return await asyncio.to_thread(paint, Wish.of(body))

    return app


if __name__ == "__main__":
    given = asked()
    uvicorn.run(build(given.folder), port=given.port, log_level="warning")
