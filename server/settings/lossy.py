"""Which models may be made faster at the cost of other pictures. Knows nothing of files or tables.

As far as a configuration tells; what a device can do shows when a model is loaded.
"""

from collections.abc import Iterator, Mapping

BLOCKS = ("sd3", "flux", "flux2", "qwen-image", "z-image")  # families of transformers
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "fp8": BLOCKS,
    "step_cache": BLOCKS,
    "step_forecast": ("sd", "sdxl", *BLOCKS),
}


def problems(family: str, asked: Mapping[str, float], offload: str) -> Iterator[str]:
    """What is wrong with these keys of a `[[model]]`; 0 is not asked."""
    for key, families in FAMILIES.items():
        if asked[key] and family not in families:
            yield f"{key} must be left out: only {', '.join(families)} can do it"
    if asked["step_cache"] and asked["step_forecast"]:
        yield "step_cache and step_forecast do not go together: leave one of them out"
    if asked["step_cache"] and offload == "all":
        yield 'step_cache does not go with offload = "all"'
