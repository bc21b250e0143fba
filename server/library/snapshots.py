"""Snapshots of repositories, where Hugging Face's library keeps them on this machine.

Never asks the network. The library is imported when it is needed: most commands do without.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo, CachedRevisionInfo, DeleteCacheStrategy, HFCacheInfo

HF = "hf:"  # a path that starts so names a repository whose snapshot is in the cache
INDEX = "model_index.json"
MAIN = "main"
# What the library takes, and nothing that could lead out of the cache's folder.
ID = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_][\w.-]{0,95}/[\w.-]{0,95}[A-Za-z0-9_]", re.ASCII)
REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][\w./-]{0,199}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Repository:
    """A model repository of the hub, at a revision: a branch, a tag or a commit."""

    id: str
    revision: str = MAIN

    @classmethod
    def parse(cls, text: str) -> "Repository":
        """ORG/NAME or ORG/NAME@REVISION, with or without `hf:` in front.

        Raises:
            ValueError: it is neither.
        """
        id_, mark, revision = text.removeprefix(HF).partition("@")
        if not ID.fullmatch(id_) or (mark and not REVISION.fullmatch(revision)):
            raise ValueError(f'must be like "{HF}ORG/NAME" or "{HF}ORG/NAME@REVISION"')
        return cls(id_, revision or MAIN)

    def __str__(self) -> str:
        return self.id if self.revision == MAIN else f"{self.id}@{self.revision}"

    @property
    def path(self) -> str:
        """What to write as the path of a model."""
        return f"{HF}{self}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole diffusers folder in the cache."""

    repository: Repository  # by the shortest revision that leads to it
    folder: Path
    size: int  # bytes on disk
    used: float  # when a file of its repository was last read, seconds since 1970


def cache() -> Path:
    """The folder of the cache, as HF_HUB_CACHE and HF_HOME say."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def home(id_: str) -> Path:
    """The folder of a repository in the cache."""
    return cache() / f"models--{id_.replace('/', '--')}"


def folder(repository: Repository) -> Path:
    """Where its snapshot is, or where it would be: it is there if it holds an index."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(
        repository.id, INDEX, cache_dir=cache(), revision=repository.revision
    )
    if isinstance(found, str):
        return Path(found).parent
    return home(repository.id) / "snapshots" / repository.revision


def snapshots() -> tuple[list[Snapshot], list[str]]:
    """All diffusers folders in the cache, by name; and what of it cannot be read, if anything."""
    found = _scan()
    if found is None:
        return [], []
    models = sorted((repo for repo in found.repos if repo.repo_type == "model"), key=_name)
    return [each for repo in models for each in _of(repo)], [str(why) for why in found.warnings]


def deletion(repository: Repository, whole: bool) -> "Deletion | None":
    """What removing a repository, or one revision of it, amounts to; None if it is not there."""
    found = _scan()
    for repo in found.repos if found else ():
        if found and repo.repo_type == "model" and repo.repo_id == repository.id:
            doomed = [each for each in repo.revisions if whole or _is(each, repository.revision)]
            strategy = found.delete_revisions(*(each.commit_hash for each in doomed))
            return Deletion(strategy, [each.snapshot_path for each in doomed]) if doomed else None
    return None


@dataclass(frozen=True, slots=True)
class Deletion:
    """The library's plan to remove snapshots."""

    strategy: "DeleteCacheStrategy"
    folders: Sequence[Path]  # of the snapshots that go

    @property
    def size(self) -> int:
        """Bytes that become free."""
        return self.strategy.expected_freed_size

    def execute(self) -> None:
        """Do it."""
        self.strategy.execute()


def _scan() -> "HFCacheInfo | None":
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        return scan_cache_dir(cache())
    except CacheNotFound:
        return None


def _of(repo: "CachedRepoInfo") -> Iterator[Snapshot]:
    for each in sorted(repo.revisions, key=lambda each: each.commit_hash):
        if (each.snapshot_path / INDEX).is_file():
            repository = Repository(repo.repo_id, _shortest(each.refs, each.commit_hash))
            yield Snapshot(repository, each.snapshot_path, each.size_on_disk, repo.last_accessed)


def _shortest(refs: Iterable[str], commit: str) -> str:
    names = sorted(refs, key=lambda ref: (ref != MAIN, len(ref), ref))
    return names[0] if names else commit


def _is(revision: "CachedRevisionInfo", name: str) -> bool:
    return name == revision.commit_hash or name in revision.refs


def _name(repo: "CachedRepoInfo") -> str:
    return repo.repo_id.lower()
