"""Peer: the stock pipeline behind a lock, one call after the other.

`python -m bench.peers.looped --port PORT --folder FOLDER`
"""

import threading

import uvicorn
from fastapi import FastAPI

from bench.peers.asked import asked
from bench.peers.painting import Document, Wish, answer, loaded, painted


def build(folder: str) -> FastAPI:
    """The application."""
    app, pipe, turn = FastAPI(), loaded(folder), threading.Lock()

    @app.post("/images/generations")
    def generations(body: Document) -> Document:
        with turn:
            (image,) = painted(pipe, [Wish.of(body)])
        return answer(image)

    return app


if __name__ == "__main__":
    given = asked()
    uvicorn.run(build(given.folder), port=given.port, log_level="warning")
