"""A measured checkpoint behind a limner of its own, against the stock pipeline here, in turns."""

import asyncio
import base64
import io
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.sitting import MODEL
from bench.subject import PROMPT, Figures, Subject, bare
from bench.tables import neat

PATIENCE = 120.0  # seconds in which the server is to get ready; time on a GPU is dear
CONFIG = """
[worker]
device = "{device}"
threads = {threads}

[[model]]
id = "{id}"
family = "{family}"
path = {path}
dtype = "{dtype}"
native = ["{side}x{side}"]
max_pixels = {pixels}
multiple = 8
default_size = "{side}x{side}"
steps = {steps}
steps_range = [1, 100]
guidance = {guidance}
max_batch = 8
"""


def served(subject: Subject) -> Figures:
    """Images per second over HTTP against bare: one alone, and as many at once as pay."""
    # Only here, so that what paints can be measured where there is no server.
    from bench.running import limner, running

    def command(port: int) -> list[str]:
        return limner(port, "--config", str(path), device="")

    with tempfile.TemporaryDirectory(prefix="limner-served-") as folder:
        path = Path(folder) / "limner.toml"
        path.write_text(config(subject, Path(folder)), encoding="utf-8")
        with running(command, patience=PATIENCE) as server:
            painted = asyncio.run(together(server.url, subject, [PROMPT]))[1]
            stock = (bare(subject.model, subject.job())[0].permute(1, 2, 0) * 255).round()
            subject.compare("served, off the stock pipeline's", painted, stock.cpu().numpy())
            counts = sorted({1, subject.best})
            return {"served": [company(server.url, subject, count) for count in counts]}


def config(subject: Subject, folder: Path) -> str:
    """A configuration with nothing but the checkpoint, whose weights go into a folder unless they
    are in one already."""
    import torch

    weights = subject.folder
    if weights is None:
        weights = folder / "weights"
        subject.model.pipe.save_pretrained(weights)
    kind = subject.model.device.type
    return CONFIG.format(
        device=kind,
        threads=torch.get_num_threads() if kind == "cpu" else 0,
        id=MODEL,
        family=subject.family,
        path=json.dumps(str(weights)),
        dtype=str(subject.model.pipe.vae.dtype).removeprefix("torch."),
        side=subject.side,
        pixels=subject.side**2,
        steps=subject.steps,
        guidance=subject.usual.guidance,
    )


def company(url: str, subject: Subject, count: int) -> Figures:
    """So many at once, again and again: all of them asked for, then all of them painted bare. Each
    has a prompt of its own, for limner remembers what its text encoders made of one."""
    rows: list[tuple[float, float]] = []
    bare(subject.model, *(subject.job(seeds=(seed,)) for seed in range(count)))
    for turn in range(subject.rounds):
        prompts = [f"{PROMPT}, {count} at once, {turn}, {seed}" for seed in range(count)]
        jobs = [subject.job(seeds=(seed,), prompt=said) for seed, said in enumerate(prompts)]
        seconds, _ = asyncio.run(together(url, subject, prompts))
        subject.model.settle()
        began = time.perf_counter()
        bare(subject.model, *jobs)
        subject.model.settle()
        rows.append((seconds, time.perf_counter() - began))
    return {
        "canvases": count,
        "served_seconds": neat(statistics.median(row[0] for row in rows)),
        "bare_seconds": neat(statistics.median(row[1] for row in rows)),
        "served_to_bare": neat(statistics.median(row[0] / row[1] for row in rows)),
    }


async def together(
    url: str, subject: Subject, prompts: Sequence[str]
) -> tuple[float, np.ndarray[Any, Any]]:
    """Seconds until so many pictures, asked for at once, are there; and the pixels of the first."""
    import httpx2

    async with httpx2.AsyncClient(base_url=url, timeout=None, trust_env=False) as client:
        began = time.perf_counter()
        asked = [client.post(ASK, json=wish(subject, *each)) for each in enumerate(prompts)]
        answers = await asyncio.gather(*asked)
        seconds = time.perf_counter() - began
    document = answers[0].raise_for_status().json()
    data = base64.b64decode(document["data"][0]["b64_json"])
    return seconds, np.asarray(Image.open(io.BytesIO(data)), np.int16)


ASK = "/openai/v1/images/generations"


def wish(subject: Subject, seed: int, prompt: str) -> dict[str, Any]:
    """A request for the picture that `subject.job` is for."""
    return {
        "model": MODEL,
        "prompt": prompt,
        "size": f"{subject.side}x{subject.side}",
        "steps": subject.steps,
        "guidance": subject.usual.guidance,
        "seed": seed,
        "response_format": "b64_json",
    }
