"""On what a figure was measured."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = ("limner", "torch", "diffusers", "transformers", "fastapi", "uvicorn", "pillow")


def facts() -> dict[str, object]:
    """Processor, versions and the date."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def version(package: str) -> str | None:
    """None for what is not installed, as the server's parts where only the engine is measured."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name, in its maker's words."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
