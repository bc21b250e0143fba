"""One request of Depicta's being painted, its files kept, whether or not its client waits for it.

Knows nothing of how it was asked for over HTTP, nor of links.
"""

import asyncio

from server.dialects.depicta_answers import Kept
from server.dialects.depicta_drafts import Asked
from server.dialects.depicta_replays import Once
from server.edge import web
from server.edge.front import Front
from server.errors import InternalError
from server.images.pictures import Picture
from server.jobs.intake import Draft
from server.jobs.service import Admitted, Painted, Result


class Painting:
    """One request being painted. It goes on when its client has left."""

    def __init__(self, front: Front, asked: Asked, key: Once | None) -> None:
        self._front = front
        self._asked = asked
        self._key = key
        self.id = ""  # once it was admitted

    async def run(self, draft: Draft) -> Kept:
        """Paint, and keep the files.

        Raises:
            Refusal: it was not admitted, nothing could be painted, or the files cannot be kept.
        """
        async with self._front.painter.paint(draft) as updates:
            async for update in updates:
                match update:
                    case Admitted(name):
                        self.id = name
                    case Result():
                        return await self._kept(update.or_refusal())
                    case _:
                        pass
        raise InternalError("the request ended without a result")

    async def _kept(self, result: Result) -> Kept:
        """Inside the painting's block: the job is over when its files are there."""
        pictures = await asyncio.gather(*map(self._files, result.painted))
        own = result.order.draft.ignored
        notices = web.named(result.notices, own, self._asked.theirs)
        warnings = [(each.param, each.message) for each in notices]
        warnings += [("n", f"one is missing: {each.refusal.message}") for each in result.missed]
        kept = Kept(
            id=result.id,
            model=result.order.job.model,
            seeds=tuple(painted.seed for painted in result.painted),
            pictures=tuple(pictures),
            warnings=tuple(warnings),
            seconds=result.seconds,
        )
        key, fingerprint = (self._key.key, self._key.fingerprint) if self._key else ("", "")
        self._front.jobs.answered(result.id, kept.written(), key, fingerprint)
        return kept

    async def _files(self, painted: Painted) -> dict[str, tuple[str, int]]:
        async def put(picture: Picture) -> tuple[str, tuple[str, int]]:
            artifact = await self._front.artifacts.put(picture.data, picture.mime)
            return picture.format, (artifact.id, len(picture.data))

        return dict(await asyncio.gather(*map(put, (painted.picture, *painted.also))))
