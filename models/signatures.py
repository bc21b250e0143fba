"""What methods take, worked out once for each class: to ask anew for each picture costs half a
millisecond."""

import functools
import inspect


@functools.cache
def signature_of(kind: type, method: str) -> inspect.Signature:
    """Without `self`."""
    return inspect.signature(functools.partial(getattr(kind, method), None))
