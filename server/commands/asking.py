"""`limner ps`: asks a running server what it has in memory. Speaks to a terminal."""

import datetime
from pathlib import Path

import httpx2
import msgspec

from server.commands import terminal
from server.jobs.status import Status

PATIENCE = 5.0  # seconds for a server to tell its state


def ps(path: Path | None, url: str, as_json: bool) -> None:
    """Print what a running server has in memory; exit 1 where none answers."""
    server = terminal.read(path, {}).server
    url = url.rstrip("/") or terminal.local_address(server.host, server.port)
    url = url if "://" in url else f"http://{url}"
    status = asked(url)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(status), indent=1).decode())
        return
    for worker in status.workers:
        up = datetime.timedelta(seconds=round(status.uptime))
        print(f"{url} for {up}: {worker.state} on {worker.device or worker.name}\n")
    rows = [
        (
            *(each.id, each.state, terminal.amount(each.bytes) if each.bytes else "-"),
            *(str(each.running), str(each.waiting), each.reason),
        )
        for each in status.models
    ]
    terminal.show(rows, "model", "state", "memory", "running", "waiting", "reason")


def asked(url: str) -> Status:
    """What the server at a URL says of itself, or the end."""
    try:
        # No proxy: it is most often this machine, and then no proxy would find it.
        answer = httpx2.get(f"{url}/statusz", timeout=PATIENCE, trust_env=False)
        answer.raise_for_status()
        return msgspec.json.decode(answer.content, type=Status)
    except httpx2.HTTPStatusError as error:
        raise SystemExit(f"{url} answers {error.response.status_code}: is it limner?") from None
    except (httpx2.HTTPError, httpx2.InvalidURL):
        raise SystemExit(f"no server answers on {url}") from None
    except msgspec.MsgspecError:
        raise SystemExit(f"what {url} answers is not limner's") from None
