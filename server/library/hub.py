"""The hub of Hugging Face: what a repository holds, one file of it, and what goes wrong with that.

Speaks to the network, and is imported by nothing that serves. Goes through Hugging Face's own
library into its own cache. Knows nothing of what limner needs, or of terminals.
"""

import errno
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import httpx2
import huggingface_hub
from huggingface_hub import HfApi, ModelInfo, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from server.library.snapshots import MAIN, Repository, cache

Note: TypeAlias = Callable[[int], None]  # told of every so many bytes


class HubError(Exception):
    """Why something cannot be fetched, in one sentence for people."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of a repository."""

    name: str
    size: int  # bytes
    sha256: str  # as the hub tells it; empty for small text files
    blob: str  # what its contents are called in the cache


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository, at the commit that its revision stands for now."""

    repository: Repository
    commit: str
    licence: str  # as the repository names it; "" if it does not
    adapter: bool  # it says that it is a LoRA
    files: Mapping[str, Listed]  # by name


def ask(repository: Repository) -> Listing:
    """What a repository holds.

    Raises:
        HubError: it is not there, not for everyone, or the hub cannot be reached.
    """
    with told(repository):
        revision = None if repository.revision == MAIN else repository.revision
        info = HfApi().model_info(repository.id, revision=revision, files_metadata=True)
    return Listing(
        repository=repository,
        commit=info.sha or "",
        licence=_licence(info),
        adapter=_is_adapter(info),
        files={each.name: each for each in _listed(info)},
    )


def download(
    repository: Repository, name: str, revision: str, note: Note, folder: Path | None = None
) -> Path:
    """Fetch one file, if it is not here; its path. Into the cache, or into a `folder` instead.

    Of a `revision` that is no commit, the cache remembers which commit it stood for.

    Raises:
        HubError: it cannot be fetched.
        KeyboardInterrupt: somebody has had enough.
    """
    fetch = cast(Any, huggingface_hub).hf_hub_download  # its overloads take no bar but tqdm's
    where = {"local_dir": folder} if folder else {"cache_dir": cache()}
    with told(repository):
        return Path(fetch(repository.id, name, revision=revision, tqdm_class=_ticks(note), **where))


def _listed(info: ModelInfo) -> Iterator[Listed]:
    for each in info.siblings or ():
        sha256 = each.lfs.sha256 if each.lfs else ""
        if each.rfilename.isprintable():  # names are shown on a terminal
            yield Listed(each.rfilename, each.size or 0, sha256, sha256 or each.blob_id or "-")


def _licence(info: ModelInfo) -> str:
    card: Mapping[str, Any] = info.card_data.to_dict() if info.card_data else {}
    tags = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    named = card.get("license_name") if card.get("license") == "other" else card.get("license")
    licence = str(named or (tags[0] if tags else ""))
    return licence if licence.isprintable() else repr(licence)


def _is_adapter(info: ModelInfo) -> bool:
    tags = info.tags or []
    return "lora" in tags or any(tag.startswith("base_model:adapter:") for tag in tags)


def silent(count: int) -> None:
    """Tell nobody."""


def _ticks(note: Note) -> Any:
    """A class of what the library takes for progress bars; they all add up in `note`."""

    class Ticks:
        def __init__(self, *_: object, **__: object) -> None: ...
        def __enter__(self) -> "Ticks":
            return self

        def __exit__(self, *_: object) -> None: ...
        def close(self) -> None: ...
        def update(self, count: float | None = 1) -> None:
            note(int(count or 0))

        # That it is there tells the library to open no second bar for what travels.
        def update_transfer(self, count: float | None = 1) -> None: ...
        def set_postfix_str(self, *_: object, **__: object) -> None: ...
        def set_transfer_postfix_str(self, *_: object, **__: object) -> None: ...

    return Ticks


@contextmanager
def told(repository: Repository) -> Generator[None]:
    """Turn what the library raises into sentences."""
    try:
        yield
    except (
        HfHubHTTPError,
        httpx2.HTTPError,
        LocalEntryNotFoundError,
        OSError,
        ValueError,
    ) as error:
        raise HubError(_sentence(repository, error)) from error


def _sentence(repository: Repository, error: Exception) -> str:
    cause = error.__cause__
    if isinstance(error, LocalEntryNotFoundError) and isinstance(cause, Exception):
        return _sentence(repository, cause)  # it only says that the cache does not help either
    match error:
        case GatedRepoError():
            return (
                f"{repository} is gated: accept its terms on {constants.ENDPOINT}/{repository.id}, "
                "then `hf auth login`"
            )
        case RepositoryNotFoundError():
            return (
                f"there is no repository {repository.id} on {constants.ENDPOINT}, "
                "or it is private (`hf auth login`)"
            )
        case RevisionNotFoundError():
            return f"{repository.id} has no revision {repository.revision}"
        case OfflineModeIsEnabled():
            return f"{repository} cannot be fetched while HF_HUB_OFFLINE is set"
        case HfHubHTTPError():
            code = error.response.status_code
            return f"{constants.ENDPOINT} answers {code} when asked for {repository}"
        case httpx2.HTTPError():
            return f"{constants.ENDPOINT} cannot be reached: {error or type(error).__name__}"
        case OSError(errno=errno.ENOSPC):
            return f"the disk of {cache()} is full; what is complete stays"
        case _:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            return f"{repository} cannot be fetched: {line}"
