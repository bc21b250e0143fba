"""A hub on this machine: repositories of bytes, which the real library fetches over a socket."""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, NamedTuple

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
NEEDED = {
    "model_index.json": json.dumps(
        {
            "_class_name": "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "image_encoder": [None, None],
        }
    ).encode(),
    "unet/config.json": b'{"sample_size": 64}',
    WEIGHTS: bytes(range(256)) * 400,
    "text_encoder/config.json": b"{}",
    "text_encoder/model.fp16.safetensors": b"half" * 100,
    "tokenizer/vocab.json": b"{}",
    "tokenizer/merges.txt": b"#version",
}
NEEDLESS = {
    "README.md": b"a card",
    "sd.safetensors": b"all in one" * 1000,
    "unet/diffusion_pytorch_model.fp16.safetensors": b"x" * 9,
    "unet/diffusion_pytorch_model.bin": b"a pickle",
    "unet/model.onnx": b"x",
    "unet/attack.py": b"import os",
    "text_encoder/model.non_ema.safetensors": b"x" * 9,
    "text_encoder/flax_model.msgpack": b"x",
    "safety_checker/config.json": b"{}",
    "vae_1_0/config.json": b"{}",
    "unet/onnx/config.json": b"{}",
}


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Repo:
    """What a repository holds, and how it behaves."""

    files: dict[str, bytes]
    licence: str = "apache-2.0"
    tags: tuple[str, ...] = ()
    gated: bool = False
    sizes: dict[str, int] = field(default_factory=dict)  # what it claims, where that is a lie
    damaged: set[str] = field(default_factory=set)  # files of which a byte is flipped on the way
    cut: dict[str, int] = field(default_factory=dict)  # bytes after which a connection drops, once
    stuck: set[str] = field(default_factory=set)  # files that stop halfway, for as long as it lasts

    @property
    def commit(self) -> str:
        told = repr(sorted((name, sha256(data)) for name, data in self.files.items()))
        return hashlib.sha1(told.encode()).hexdigest()


class Hub:
    """`hub.repos["org/name"] = Repo({...})`; `environment` makes a process use it."""

    def __init__(self, cache: Path) -> None:
        self.repos: dict[str, Repo] = {}
        self.asked: list[str] = []  # "GET path" of every file whose contents were sent
        self.halfway = threading.Event()  # a stuck file has sent its first half
        self.released = threading.Event()
        hub = self

        class Bound(Handler):
            mine = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.cache = cache / "hub"
        self.data = cache / "data"
        self.environment = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_OFFLINE": "0",
            "LIMNER_SERVER__DATA_DIR": str(self.data),
        }
        self.constants = {  # the same for the library in this process
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(self.cache),
            "HF_HUB_OFFLINE": False,
        }

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class Handler(BaseHTTPRequestHandler):
    mine: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.describe(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.send_file(found[1], found[2], found[3])
        else:
            self.refuse(404, "EntryNotFound")

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def repo(self, name: str, revision: str) -> Repo | None:
        repo = self.mine.repos.get(name)
        if repo is None:
            self.refuse(404, "RepoNotFound")
        elif revision not in ("main", repo.commit):
            self.refuse(404, "RevisionNotFound")
        else:
            return repo
        return None

    def describe(self, name: str, revision: str) -> None:
        if repo := self.repo(name, revision):
            siblings = [
                sibling(path, data, repo.sizes.get(path)) for path, data in repo.files.items()
            ]
            body = json.dumps(
                {
                    "id": name,
                    "sha": repo.commit,
                    "siblings": siblings,
                    "tags": [f"license:{repo.licence}", *repo.tags],
                    "cardData": {"license": repo.licence},
                }
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def send_file(self, name: str, revision: str, path: str) -> None:
        repo = self.repo(name, revision)
        if repo is None:
            return
        if repo.gated:
            return self.refuse(401, "GatedRepo")
        if path not in repo.files:
            return self.refuse(404, "EntryNotFound")
        data = repo.files[path]
        first = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if first else 200)
        etag = sha256(data) if lfs(path) else blob_id(data)
        for key, value in {
            "ETag": f'"{etag}"',
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": len(data),
            "X-Repo-Commit": repo.commit,
            "Content-Length": len(data) - first,
            "Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}",
        }.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET":
            self.mine.asked.append(f"{path} {first}")
            self.send_bytes(repo, path, data, first)

    def send_bytes(self, repo: Repo, path: str, data: bytes, first: int) -> None:
        if path in repo.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        last = len(data)
        if path in repo.cut:
            last = repo.cut.pop(path)
        if path in repo.stuck:
            self.wfile.write(data[first : last // 2])
            self.mine.halfway.set()
            self.mine.released.wait(20)
            self.close_connection = True
            return
        self.wfile.write(data[first:last])
        self.close_connection = last < len(data)


def lfs(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sibling(path: str, data: bytes, claimed: int | None) -> dict[str, object]:
    size = claimed or len(data)
    told: dict[str, object] = {"rfilename": path, "size": size, "blobId": blob_id(data)}
    if lfs(path):
        told["lfs"] = {"sha256": sha256(data), "size": size, "pointerSize": 130}
    return told
