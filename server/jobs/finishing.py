"""From what was painted to what is delivered: finished, encoded in each format, and what is written
into the file; and previews on the way.

Pixels are worked on in threads. Knows nothing of workers, nor of who waits.
"""

import asyncio

from models.contract import Image
from server.images.pictures import Picture, encode, resized
from server.jobs.intake import Order
from server.jobs.preparation import Prepared

SOFTWARE = "limner"
PREVIEW_SIDE = 256  # px; smaller previews are enlarged, for a client's page


async def finished(prepared: Prepared, index: int, image: Image) -> list[Picture]:
    """One of the n images as its client gets it, in the formats that were asked for, in order."""
    order = prepared.order
    draft = order.draft
    whole = await asyncio.to_thread(prepared.finish, image)
    metadata = embedded(order, order.job.seeds[index]) if draft.embed_metadata else None
    files = (
        encode(whole, kind, metadata=metadata, quality=draft.output_quality)
        for kind in (draft.output_format, *draft.also)
    )
    return await asyncio.gather(*files)


async def glimpse(preview: Image) -> Picture:
    """A preview as a JPEG, large enough to look at."""
    scale = max(1, PREVIEW_SIDE // max(preview.width, preview.height))
    size = preview.width * scale, preview.height * scale
    return await encode(await asyncio.to_thread(resized, preview, *size), "jpeg", quality=80)


def embedded(order: Order, seed: int) -> dict[str, str]:
    """What is written into a picture when its client asked for it; the long texts last."""
    job = order.job
    return {
        "Software": SOFTWARE,
        "model": job.model,
        "seed": str(seed),
        "steps": str(job.steps),
        "guidance": f"{job.guidance:g}",
        "strength": f"{job.strength:g}",
        "size": str(order.output),
        "paint_size": f"{job.width}x{job.height}",
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "loras": ", ".join(f"{name}:{weight:g}" for name, weight in job.loras),
    }
