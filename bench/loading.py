"""How long a checkpoint takes from the disk to its device, in three ways that take turns.

`python -m bench.loading FOLDER` on any machine; each load is a process of its own, and before each
the files leave the system's cache (`--warm` keeps them there). `plain` is what limner does, `ahead`
also reads all files with four threads meanwhile, `shards` lets diffusers read those of a part in
parallel. Prints seconds, seconds per GB, and the memory that is not the files' own at the end.
"""

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

WAYS = {"plain": {}, "ahead": {}, "shards": {"HF_ENABLE_PARALLEL_LOADING": "1"}}
READERS = 4
PIECE = 1 << 24  # bytes that a thread reads at once


def main() -> None:
    """Measure and print; see the module's description."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a diffusers folder")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--dtype", default="bfloat16", help="precision of the weights")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", action="store_true", help="leave the files in the cache")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    files = sorted(given.folder.rglob("*.safetensors"))
    if given.way:
        print(json.dumps(loaded(given, files)))
        return
    size = sum(file.stat().st_size for file in files) / 1e9
    print(f"{size:.2f} GB in {len(files)} files, {'warm' if given.warm else 'cold'}\n")
    print("| way | s | s/GB | all rounds | GB of its own |\n|---|---|---|---|---|")
    rounds = [{way: once(given, way, files) for way in WAYS} for _ in range(given.rounds)]
    for way in WAYS:
        seconds = [each[way]["seconds"] for each in rounds]
        middle, own = statistics.median(seconds), max(each[way]["own"] for each in rounds)
        told = " ".join(f"{each:.2f}" for each in seconds)
        print(f"| {way} | {middle:.2f} | {middle / size:.2f} | {told} | {own / 1e9:.2f} |")


def once(given: argparse.Namespace, way: str, files: Sequence[Path]) -> dict[str, float]:
    """One load, in a process of its own."""
    if not given.warm:
        for file in files:
            forget(file)
    asked = ("--device", given.device, "--dtype", given.dtype, "--way", way)
    command = (sys.executable, "-m", "bench.loading", str(given.folder), *asked)
    env = os.environ | WAYS[way]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env).stdout)


def forget(file: Path) -> None:
    """Drop a file from the system's cache, as far as nobody has it mapped."""
    handle = os.open(file, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def loaded(given: argparse.Namespace, files: Sequence[Path]) -> dict[str, float]:
    """Seconds until all weights are on the device (of a CPU: copied), and the memory it took."""
    from models.vision import LIBRARY  # ahead of diffusers

    assert LIBRARY is not None
    import torch

    from models import audit, device

    target = device.choose(given.device)
    device.settle(target)
    kind = audit.read_index(given.folder)["_class_name"]
    began = time.perf_counter()
    if given.way == "ahead":
        read_ahead(files)
    pipe: Any = audit.load(given.folder, {kind}, getattr(torch, given.dtype))
    for part in pipe.components.values():
        for tensor in part.parameters() if isinstance(part, torch.nn.Module) else ():
            tensor.data.to(target, copy=True)
    device.settle(target)
    seconds = time.perf_counter() - began
    (own,) = re.findall(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text("ascii"))
    return {"seconds": seconds, "own": 1024.0 * int(own)}


def read_ahead(files: Sequence[Path]) -> None:
    """Have threads read the files into the system's cache, and do not wait for them."""
    left = itertools.chain.from_iterable(
        zip(itertools.repeat(file), range(0, file.stat().st_size, PIECE)) for file in files
    )
    lock = threading.Lock()

    def pieces() -> Iterator[tuple[Path, int]]:
        while True:
            with lock:
                piece = next(left, None)
            if piece is None:
                return
            yield piece

    def read() -> None:
        into = bytearray(PIECE)
        for file, offset in pieces():
            with file.open("rb") as opened:
                os.preadv(opened.fileno(), [into], offset)

    for _ in range(READERS):
        threading.Thread(target=read, daemon=True).start()


if __name__ == "__main__":
    main()
