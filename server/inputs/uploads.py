"""Input images as clients name them: base64, a data URL, an address on the network; and as bytes.

What comes out are encoded files. Knows no dialect, and opens no image.
"""

import re
from typing import Protocol

from server.errors import BadImage, BadRequest, TooLarge
from server.images import inline

WEB = re.compile(r"https?:", re.IGNORECASE)


class Fetch(Protocol):
    """Gets the bytes behind a URL."""

    async def fetch(self, url: str, *, param: str) -> bytes:
        """Raises Refusal, with `param` named; its text says nothing of what was reached."""
        ...


class Uploads:
    """Where the dialects get their images from.

    Args:
        image_bytes: the most that one encoded file may have.
        fetcher: gets images by URL; None where that is off.
    """

    def __init__(self, image_bytes: int, fetcher: Fetch | None = None) -> None:
        self.image_bytes = image_bytes
        self._fetcher = fetcher

    def within(self, image_bytes: int) -> "Uploads":
        """The same under another limit. Files from elsewhere stay under the fetcher's own."""
        return Uploads(image_bytes, self._fetcher)

    async def any(self, text: str, param: str) -> bytes:
        """The file that a text stands for, whichever of the three it is.

        Raises:
            Refusal: with `param` named.
        """
        return await (self.url if WEB.match(text) else self.base64)(text, param)

    async def base64(self, text: str, param: str) -> bytes:
        """The file in a base64 text or in a data URL.

        Raises:
            BadRequest, TooLarge: with `param` named.
        """
        if WEB.match(text):
            raise BadRequest(f"{param}: must be base64 or a data URL, no address", param=param)
        return await inline.decode(text, self.image_bytes, param)

    async def url(self, text: str, param: str) -> bytes:
        """The file behind an address; a data URL is one, too.

        Raises:
            Refusal: with `param` named.
        """
        if text[:5].lower() == "data:":
            return await self.base64(text, param)
        if self._fetcher is None:
            raise BadRequest(
                f"{param}: images are not fetched by URL here; send it as base64", param=param
            )
        return self.checked(await self._fetcher.fetch(text, param=param), param)

    def checked(self, data: bytes, param: str) -> bytes:
        """A file that came as bytes.

        Raises:
            BadImage: it is empty.
            TooLarge: it has too many bytes.
        """
        if not data:
            raise BadImage(f"{param}: empty", param=param)
        if len(data) > self.image_bytes:
            raise TooLarge(f"{param}: larger than {self.image_bytes} bytes", param=param)
        return data
