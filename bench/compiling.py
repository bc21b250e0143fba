"""Whether compiling the shipped model pays on this machine: a step and a decode, in turns with the
same network as it comes, and what the start costs.

`python -m bench.compiling --cache DIR`: run twice with the same folder, the first start is a cold
one and the second a warm one.
"""

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from models.vision import LIBRARY as LIBRARY
from bench import machine
from models import compilation, families
from models.checkpoint import Checkpoint
from models.contract import ModelSpec

SKETCH = Path("models/demo/sketch")
ROWS, SIDE = 2, 16  # of latents: a step of one picture of 128 px with guidance


def inputs(model: Checkpoint) -> dict[str, Callable[[Any], torch.Tensor]]:
    """What each network is asked, given itself."""
    dice = torch.Generator().manual_seed(0)
    latents = torch.randn(ROWS, 4, SIDE, SIDE, generator=dice)
    width = model.pipe.unet.config.cross_attention_dim
    text = torch.randn(ROWS, model.pipe.tokenizer.model_max_length, width, generator=dice)
    times = torch.full((ROWS,), 500)
    return {
        "step": lambda unet: unet(latents, times, text, return_dict=False)[0],
        "decode": lambda decoder: decoder(latents[:1]),
    }


def measured(work: Callable[[Any], torch.Tensor], plain: Any, tuned: Any, rounds: int) -> Any:
    """Seconds of both, in turns."""
    began = time.perf_counter()
    found = work(tuned)
    first = time.perf_counter() - began
    seconds: dict[str, list[float]] = {"plain": [], "compiled": []}
    for _ in range(rounds):
        for name, network in (("plain", plain), ("compiled", tuned)):
            began = time.perf_counter()
            work(network)
            seconds[name].append(time.perf_counter() - began)
    pairs = zip(seconds["plain"], seconds["compiled"], strict=True)
    return {
        "first_seconds": first,
        **{f"{name}_median": statistics.median(took) for name, took in seconds.items()},
        **{f"{name}_least": min(took) for name, took in seconds.items()},
        "gain": statistics.median(a / b for a, b in pairs),
        "off": (found - work(plain)).abs().max().item(),
    }


def main() -> None:
    """Measure and print; see the module's description."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="of what is compiled")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--only", choices=("step", "decode"))
    given = parser.parse_args()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(given.cache.absolute())
    torch.set_num_threads(1)
    spec = ModelSpec(id="sketch", family="sd", path=str(SKETCH), width=128, height=128)
    model = families.loader("sd")(spec, "cpu")
    assert isinstance(model, Checkpoint)
    networks = {"step": model.pipe.unet, "decode": model.pipe.vae.decoder}
    plain = copy.deepcopy(networks)
    compilation.in_regions(*networks.values())
    figures: dict[str, Any] = {"machine": machine.facts()}
    with torch.no_grad():
        for name, work in inputs(model).items():
            if given.only in (None, name):
                figures[name] = measured(work, plain[name], networks[name], given.rounds)
                print(json.dumps({name: figures[name]}), flush=True)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
