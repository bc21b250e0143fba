"""What a process does for its memory."""

import platform
import subprocess
import sys

import pytest

# Prints how often the system was asked for a page while blocks came and went, and MB kept.
BLOCKS = """
import resource, sys
from pathlib import Path
from server.commands.memory import keep_little
keep_little()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident(): return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
size = int(sys.argv[1])
kept = resident()
bytearray(b"x") * size
before = faults()
for _ in range(10):
    bytearray(b"x") * size
print(faults() - before, (resident() - kept) / 1e6)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is asked")
def test_usual_pictures_are_kept_room_for_and_large_ones_are_not() -> None:
    def of(size: int) -> tuple[int, float]:
        command = [sys.executable, "-c", BLOCKS, str(size)]
        told = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
        return int(told[0]), float(told[1])

    usual, large = of(3 << 20), of(24 << 20)
    assert usual[0] < 100, "each block came from the system"
    assert usual[1] < 16
    assert large[1] < 16, "large blocks did not go back"
