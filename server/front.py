"""What every dialect is built on, as one value."""

from dataclasses import dataclass
from typing import Any

from server.catalog import Catalog
from server.listing import listed
from server.service import Painter
from server.tables import LimitsTable
from server.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Front:
    """Made once, at the start.

    Attributes:
        started: unix seconds; since when the models are offered.
    """

    painter: Painter
    catalog: Catalog
    limits: LimitsTable
    uploads: Uploads
    started: int

    def models(self, kind: str = "all") -> dict[str, Any]:
        """The list of models that all services' clients read; see `listing.listed`."""
        return listed(self.catalog, self.started, prompt_chars=self.limits.prompt_chars, kind=kind)
