"""What every dialect is built on, as one value."""

from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request

from server.edge import files
from server.history.store import Jobs
from server.images.decode_child import Opened
from server.inputs.uploads import Uploads
from server.jobs.catalog import Catalog
from server.jobs.errands import Errands
from server.jobs.listing import listed
from server.jobs.service import Painter
from server.results.artifacts import Artifact, Artifacts
from server.settings.tables import LimitsTable


@dataclass(frozen=True, slots=True)
class Url:
    """A link to a result that a client can follow, and until when, in unix seconds."""

    text: str
    expires: int


class Opener(Protocol):
    """Opens uploaded images: the decoders, or what a test has in their place."""

    async def open(self, data: bytes, *, param: str) -> Opened:
        """Raises BadImage, with `param` named, if it is none that can be opened."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Made once, at the start.

    Attributes:
        public_url: how clients reach the server; empty: as the request did.
        started: unix seconds; since when the models are offered.
    """

    painter: Painter
    catalog: Catalog
    limits: LimitsTable
    uploads: Uploads
    artifacts: Artifacts
    decoders: Opener
    jobs: Jobs
    errands: Errands
    public_url: str
    started: int

    def models(self, kind: str = "all") -> dict[str, Any]:
        """The list of models that all services' clients read; see `listing.listed`."""
        return listed(self.catalog, self.started, prompt_chars=self.limits.prompt_chars, kind=kind)

    def url(self, request: Request, artifact: Artifact) -> Url:
        """A link to an artifact, signed anew.

        Raises:
            Expired: it is kept no longer. Unstored: there is no key.
        """
        link = self.artifacts.sign(artifact.id)
        return Url(files.address(request, self.public_url) + link.path, link.expires)
