"""How Python's collector of cycles is spared what stays, and yet finds what does not."""

import gc


def spare() -> None:
    """Have what exists by now never looked at again, for it stays as long as the process.

    Else each full collection goes through all of it: it stops an event loop for 70 ms and more, and
    a step for 0.3 s. There is one when what is new has grown to a quarter of what the last one left
    alive. The one here leaves hardly anything; without it the next would come a hundred thousand
    objects later, and what they hold would stay till then.
    """
    gc.freeze()
    gc.collect()
