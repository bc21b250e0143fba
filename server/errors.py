"""Everything a client can be told, as one tree. Each dialect renders every code in its own shape.

    Refusal
    ├─ BadRequest             invalid_request         400  a field is missing, malformed, too large
    │   ├─ BadImage           invalid_image           400  bytes that are no acceptable image
    │   │   ├─ ImageTooSmall  invalid_image           400  of too few pixels
    │   │   └─ ImageTooLarge  invalid_image           400  of too many pixels
    │   ├─ BadMask            invalid_mask            400  a mask that does not fit its image
    │   └─ FetchFailed        image_fetch_failed      400  nothing was got from an image's URL
    ├─ Forbidden              forbidden               403  host or origin not allowed
    ├─ NotFound               not_found               404  no such route
    │   └─ UnknownModel       model_not_found         404
    ├─ MethodNotAllowed       method_not_allowed      405
    ├─ TooSlow                request_timeout         408  the body did not arrive in time
    ├─ InFlight               request_in_flight       409  the same request is being answered
    ├─ Expired                expired                 410  a link too old, or a result thrown away
    ├─ TooLarge               payload_too_large       413  body or image over the limit
    ├─ UnsupportedMedia       unsupported_media_type  415
    ├─ Unprocessable          unsupported             422  understood, but no loaded model does it
    │   └─ FetchOff           url_fetch_off           422  image URLs are not fetched here
    ├─ InternalError          internal_error          500
    │   └─ WorkerDied         worker_died             500  the painting process died, twice
    └─ Unavailable            unavailable             503  try again later
        ├─ Overloaded         overloaded              503  the backlog is full
        ├─ ModelLoading       model_loading           503
        ├─ ModelFailed        model_failed            503  the model could not be loaded
        ├─ ShuttingDown       shutting_down           503
        ├─ Unstored           storage_failed          503  no room for results, or no way to them
        └─ OutOfMemory        insufficient_memory     503  the image does not fit the device

The message is public; what is private goes to the log through `__cause__`.
"""

from typing import ClassVar, NamedTuple


class Mistake(NamedTuple):
    """One thing that is wrong with a body: where (keys and indexes), of which kind in pydantic's
    words, and a public message that does not repeat the path."""

    path: tuple[str | int, ...]
    kind: str
    message: str


class Refusal(Exception):
    """Something a client is told. `param` names the field at fault; `retry_after` is in seconds."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 400

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class BadRequest(Refusal):
    code, status = "invalid_request", 400
    mistakes: tuple[Mistake, ...] = ()  # all of them, where a body was held against its shape


class BadImage(BadRequest):
    code = "invalid_image"


class ImageTooSmall(BadImage):
    pass


class ImageTooLarge(BadImage):
    pass


class BadMask(BadRequest):
    code = "invalid_mask"


class FetchFailed(BadRequest):
    code = "image_fetch_failed"


class Forbidden(Refusal):
    code, status = "forbidden", 403


class NotFound(Refusal):
    code, status = "not_found", 404


class UnknownModel(NotFound):
    code = "model_not_found"


class MethodNotAllowed(Refusal):
    code, status = "method_not_allowed", 405


class TooSlow(Refusal):
    code, status = "request_timeout", 408


class InFlight(Refusal):
    code, status = "request_in_flight", 409


class Expired(Refusal):
    code, status = "expired", 410


class TooLarge(Refusal):
    code, status = "payload_too_large", 413


class UnsupportedMedia(Refusal):
    code, status = "unsupported_media_type", 415


class Unprocessable(Refusal):
    code, status = "unsupported", 422


class FetchOff(Unprocessable):
    code = "url_fetch_off"


class InternalError(Refusal):
    code, status = "internal_error", 500


class WorkerDied(InternalError):
    code = "worker_died"


class Unavailable(Refusal):
    code, status = "unavailable", 503


class Overloaded(Unavailable):
    code = "overloaded"


class ModelLoading(Unavailable):
    code = "model_loading"


class ModelFailed(Unavailable):
    code = "model_failed"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class Unstored(Unavailable):
    code = "storage_failed"


class OutOfMemory(Unavailable):
    code = "insufficient_memory"


class Gone(Exception):
    """The client left, or reads too slowly: nobody is there to be told anything."""
