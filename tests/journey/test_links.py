"""Results fetched by their links from the real server, and one that it sweeps when it starts."""

import asyncio
import time
from pathlib import Path

from server.results.artifacts import Artifacts
from server.results.links import kept_key
from server.results.shelf import Shelf

DATA = bytes(range(256)) * 8000  # 2 MB


def test_links_are_served_and_never_logged(serving, toy_config, tmp_path: Path) -> None:
    keys = [kept_key(tmp_path / "signing.key")]
    shelf = Shelf((tmp_path / "artifacts").as_uri())

    def store(ago: float) -> Artifacts:
        return Artifacts(
            shelf, lambda: keys, hours=24, quota=10**9, clock=lambda: time.time() - ago
        )

    old = asyncio.run(store(25 * 3600).put(DATA, "image/png"))
    late = store(3600).sign(asyncio.run(store(3600).put(DATA, "image/png")).id)
    link = store(0).sign(asyncio.run(store(0).put(DATA, "image/png")).id)
    place = {"LIMNER_SERVER__DATA_DIR": str(tmp_path)}
    with serving("--config", str(toy_config), environment=place) as server:
        with server.client() as client:
            answer = client.get(link.path)
            assert (answer.status_code, answer.content) == (200, DATA)
            assert client.head(link.path).headers["content-length"] == f"{len(DATA)}"
            assert client.get(late.path).status_code == 410
            assert client.get(link.path.replace("expires=1", "expires=2")).status_code == 403
            assert client.get(link.path, headers={"Host": "evil.example"}).status_code == 403
        assert old.id not in shelf.sizes()
        assert server.stop() == 0
        server.wait_for_log(f"GET {link.path.partition('?')[0]} 200")
        assert "signature" not in server.log
        assert keys[0] not in server.log
