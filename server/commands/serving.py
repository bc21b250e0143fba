"""What the commands do: serve, paint, list models, check a configuration. Speaks to a terminal."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import rich.console
import uvicorn
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from models import collector
from server.app import Parts, assemble, build
from server.commands.memory import keep_little
from server.commands.terminal import Named, Overrides, local_address, read
from server.edge.ops import Readiness
from server.errors import Refusal
from server.jobs.catalog import Catalog, Size
from server.jobs.intake import Draft, Format
from server.jobs.service import Admitted, Missed, Painted, Result
from server.jobs.service import Progress as StepDone
from server.settings.config import Config, ConfigError
from server.settings.stock import missing

log = logging.getLogger(__name__)

EXAMPLE = (
    "curl -s {url}/api/v1/image/generate -H 'Content-Type: application/json' \\\n"
    '  -d \'{{"model": "{model}", "prompt": "a red circle on a blue background", '
    '"output_type": "file"}}\' -o circle.png'
)


def serve(
    path: Path | None, overrides: Overrides, models: Named = (), model_dirs: Sequence[Path] = ()
) -> None:
    """Serve until SIGINT or SIGTERM; exit 1 when nothing can be served.

    `models` are ids, and the paths of the checkpoints to serve under them; `model_dirs` trees of
    more.
    """
    config = read(path, overrides, models, model_dirs)
    keep_log("INFO", "%(name)s: %(message)s")
    keep_little()
    parts = assemble_or_exit(config)
    for reason in missing(config).values():
        log.warning("%s; the other models are served", reason)
    for ending in (signal.SIGINT, signal.SIGTERM):
        # uvicorn takes these over, and raises them again when it has ended in good order.
        signal.signal(ending, lambda number, frame: None)
    with listen(config) as listener:
        url = address(config, listener.getsockname()[1])

        serving = Serving(url, config.model[0].id)
        serving.run(parts, config.server.grace_seconds, listener)
    if serving.failed:
        raise SystemExit(1)


class Serving:
    """One run of the HTTP server, which ends early when nothing can be served."""

    def __init__(self, url: str, model: str) -> None:
        self._url = url
        self._model = model
        self._server: uvicorn.Server | None = None
        self.failed = False

    def run(self, parts: Parts, grace_seconds: float, listener: socket.socket) -> None:
        """Serve until told to end."""
        config = uvicorn.Config(
            build(parts, self._announce, self._fail),
            lifespan="on",
            ws="none",  # nothing here speaks it; a handshake is a request like any other
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(grace_seconds),
        )
        self._server = uvicorn.Server(config)
        self._server.run(sockets=[listener])
        self.failed |= not self._server.started

    def _announce(self, readiness: Readiness) -> None:
        for reason in readiness.reasons:
            print(reason, file=sys.stderr, flush=True)
        if not readiness.ready:
            return self._fail()
        collector.spare()
        example = EXAMPLE.format(url=self._url, model=self._model)
        print(f"\nlimner is ready on {self._url}\n\n{example}\n", flush=True)

    def _fail(self) -> None:
        self.failed = True
        if self._server is not None:
            self._server.should_exit = True


def keep_log(level: str, form: str) -> None:
    """Log to stderr: standard output may be a pipe that nobody reads. In colour for people."""
    logging.getLogger("alembic").setLevel("WARNING")  # it says every step it looks at
    if sys.stderr.isatty():
        handler = RichHandler(console=rich.console.Console(stderr=True))
        logging.basicConfig(level=level, format=form, handlers=[handler])
    else:
        logging.basicConfig(level=level, format=f"%(asctime)s %(levelname)s {form}")


def listen(config: Config) -> socket.socket:
    """A listening socket, taken before anything is loaded: a port in use is known at once."""
    host, port = config.server.host, config.server.port
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        raise SystemExit(f"cannot listen on {host}:{port}: {error.strerror}") from None


def address(config: Config, port: int) -> str:
    """The URL to tell people."""
    return config.server.public_url or local_address(config.server.host, port)


@dataclass(frozen=True, slots=True)
class Sitting:
    """What `limner paint` was asked for; None leaves it to the model."""

    out: Path
    model: str | None
    prompt: str
    negative: str
    seed: int | None
    steps: int | None
    guidance: float | None
    size: str | None
    image: Path | None
    mask: Path | None

    def draft(self, default_model: str) -> Draft:
        """The request it amounts to.

        Raises:
            ValueError: the size or the ending of the file's name means nothing.
            OSError: an input cannot be read.
        """
        ending = self.out.suffix.lower().lstrip(".").replace("jpg", "jpeg")
        if ending not in get_args(Format):
            raise ValueError(f"{self.out}: the name must end in .png, .jpg or .webp")
        if not self.out.parent.is_dir():
            raise ValueError(f"{self.out}: there is no folder {self.out.parent}")
        size = Size.parse(self.size) if self.size else None
        return Draft(
            dialect="cli",
            task="edit" if self.image else "generate",
            model=self.model or default_model,
            prompt=self.prompt,
            negative_prompt=self.negative,
            width=size and size.width,
            height=size and size.height,
            seed=self.seed,
            steps=self.steps,
            guidance=self.guidance,
            images=(self.image.read_bytes(),) if self.image else (),
            mask=self.mask.read_bytes() if self.mask else None,
            output_format=cast(Format, ending),
            tags=True,
        )


def paint(path: Path | None, overrides: Overrides, sitting: Sitting) -> None:
    """Paint one picture; print its seed and seconds."""
    config = read(path, overrides)
    keep_log("WARNING", "%(message)s")
    try:
        draft = sitting.draft(config.model[0].id)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    parts = assemble_or_exit(config)
    try:
        parts.service.catalog.find(draft.model)  # before a worker is started for nothing
    except Refusal as refusal:
        raise SystemExit(refusal.message) from None
    result = asyncio.run(sit(parts, draft))
    if isinstance(result, Refusal):
        raise SystemExit(result.message)
    if result.missed:
        raise SystemExit(result.missed[0].refusal.message)
    painted = result.painted[0]
    sitting.out.write_bytes(painted.picture.data)
    for notice in result.notices:
        print(f"{notice.param}: {notice.message}", file=sys.stderr)
    size = f"{painted.picture.width}x{painted.picture.height}"
    seconds = result.seconds["paint"]
    print(f"{sitting.out}  {size}  seed {painted.seed}  {seconds:.2f} s")


async def sit(parts: Parts, draft: Draft) -> Result | Refusal:
    """Start a worker for one picture, with a progress bar."""
    with bar() as progress:
        task = progress.add_task("loading", total=None)
        async with parts.running():
            await parts.settled()
            try:
                async with parts.service.paint(draft) as updates:
                    async for update in updates:
                        match update:
                            case StepDone(_, step, steps):
                                progress.update(
                                    task, description="painting", completed=step, total=steps
                                )
                            case Result():
                                return update
                            case Admitted() | Painted() | Missed():
                                pass
            except Refusal as refusal:  # not beyond `running`, whose task group would wrap it
                return refusal
    raise AssertionError("the updates ended without a result: this is a bug")


def bar() -> Progress:
    """A bar on stderr, gone when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeElapsedColumn(), console=rich.console.Console(stderr=True), transient=True
    )


def models(path: Path | None) -> None:
    """Print a table of the configured models."""
    table = Table("model", "family", "tasks", "paints", "answers", "steps", "aliases")
    config = read(path, {})
    for offering in Catalog.of(config).offerings:
        sizes = ", ".join(map(str, offering.sizing.native))
        table.add_row(
            *(offering.id, offering.family, ", ".join(offering.tasks), sizes),
            *(str(offering.sizing.default), str(offering.steps), ", ".join(offering.aliases)),
        )
    rich.print(table)
    for reason in missing(config).values():
        print(reason, file=sys.stderr)


def check(file: Path) -> None:
    """Print that a file is fine; exit 1 with what is wrong with it otherwise."""
    config = read(file, {})
    if absent := missing(config):
        raise SystemExit("\n".join(absent.values()))
    assemble_or_exit(config)
    print(f"{file} is fine: {len(config.model)} models, {len(config.style)} styles")


def assemble_or_exit(config: Config) -> Parts:
    """The parts, or the end."""
    try:
        return assemble(config)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
