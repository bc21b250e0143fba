"""What a process does for its memory."""

import gc

from server.commands.memory import spare_the_collector


def test_what_exists_is_not_looked_at_again() -> None:
    try:
        spare_the_collector()
        frozen = gc.get_freeze_count()
        assert frozen > 10_000
        kept = [[] for _ in range(100)]
        assert len(gc.get_objects()) < frozen  # the new ones alone
        assert gc.is_tracked(kept)
    finally:
        gc.unfreeze()
