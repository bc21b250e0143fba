"""The collector does little, and does it."""

import gc
import subprocess
import sys

from models import collector


def test_what_exists_is_not_looked_at_again() -> None:
    try:
        collector.spare()
        frozen = gc.get_freeze_count()
        assert frozen > 10_000
        kept = [[] for _ in range(100)]
        assert len(gc.get_objects()) < frozen  # the new ones alone
        assert gc.is_tracked(kept)
    finally:
        gc.unfreeze()


# As libraries do, leaves much; then prints how many of a thousand old cycles are left when many
# young ones have come and gone.
CYCLES = """
import gc, weakref
from models import collector
class Knot:
    def __init__(self):
        self.me = self
libraries = [[] for _ in range(400_000)]
gc.collect()
collector.spare()
old = [Knot() for _ in range(1000)]
gc.collect(1)  # now they are of those that only a full collection looks at
seen = [weakref.ref(each) for each in old]
del old
kept = []
for number in range(500_000):
    Knot()
    if number % 100 == 0:
        kept.append([])
print(sum(each() is not None for each in seen))
"""


def test_what_is_of_no_more_use_is_found() -> None:
    command = [sys.executable, "-c", CYCLES]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "0\n"
