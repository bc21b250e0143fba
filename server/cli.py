"""The `limner` command. Imports what a command needs when it runs, so that `--help` is instant."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from server.library.snapshots import Repository

app = typer.Typer(
    help="A local image inference server.", no_args_is_help=True, add_completion=False
)
config_app = typer.Typer(help="Look at configuration files.", no_args_is_help=True)
app.add_typer(config_app, name="config")
bench_app = typer.Typer(help="Measure.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A TOML file; the shipped demo.toml if absent.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    config: ConfigFile = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH or NAME=hf:ORG/NAME: serve it, needing no file. Repeatable."),
    ] = None,
    model_dir: Annotated[
        list[Path] | None,
        typer.Option(help="A tree of folders whose checkpoints are all served. Repeatable."),
    ] = None,
    device: Device = None,
    insecure_open: Annotated[
        bool, typer.Option("--insecure-open", help="Allow other machines in, without any keys.")
    ] = False,
) -> None:
    """Serve the HTTP APIs until interrupted."""
    from server.commands.serving import serve as run

    named = [_named(each) for each in model or ()]
    flags = {"host": host, "port": port, "insecure_open": insecure_open or None}
    run(config, {"server": flags, "worker": {"device": device}}, named, model_dir or ())


@app.command()
def paint(
    prompt: str,
    out: Annotated[Path, typer.Option("-o", "--out", help="PNG, JPEG or WebP.")] = Path("out.png"),
    model: Annotated[str | None, typer.Option(help="A model id or alias.")] = None,
    negative: Annotated[str, typer.Option(help="What not to paint.")] = "",
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same picture.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the prompt.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to start from.")] = None,
    mask: Annotated[Path | None, typer.Option(help="White where it may be repainted.")] = None,
    config: ConfigFile = None,
    device: Device = None,
) -> None:
    """Paint one picture without a server."""
    from server.commands.serving import Sitting
    from server.commands.serving import paint as run

    sitting = Sitting(out, model, prompt, negative, seed, steps, guidance, size, image, mask)
    run(config, {"worker": {"device": device}}, sitting)


@app.command()
def models(config: ConfigFile = None) -> None:
    """List the configured models."""
    from server.commands.serving import models as run

    run(config)


@app.command()
def pull(
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME", help="On the Hugging Face hub.")],
    revision: Annotated[str, typer.Option(help="A branch, tag or commit.")] = "",
    file: Annotated[str, typer.Option(help="Only this .safetensors file.")] = "",
    bare: Annotated[
        bool, typer.Option("--bare", help="No weights: only what single files lack.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be fetched.")
    ] = False,
    yes: Yes = False,
    config: ConfigFile = None,
) -> None:
    """Fetch a model's weights into the Hugging Face cache, and check them."""
    from server.commands.pulling import pull as run

    text = f"{repository}@{revision}" if revision else repository
    run(_repository(text), file, config, bare=bare, dry=dry_run, sure=yes)


@app.command()
def verify(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="Configured ones; all if none.")
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Take the weights as they are from now on.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Compare weights with what they were when they were fetched or first verified."""
    from server.commands.keeping import verify as run

    run(models or (), renew, config)


@app.command()
def ls(as_json: Json = False, config: ConfigFile = None) -> None:
    """List the checkpoints on this machine."""
    from server.commands.keeping import ls as run

    run(config, as_json)


@app.command()
def rm(
    repository: Annotated[
        str, typer.Argument(metavar="ORG/NAME[@REVISION]", help="As `limner ls` shows it.")
    ],
    yes: Yes = False,
    config: ConfigFile = None,
) -> None:
    """Remove a repository, or one revision of it, from the Hugging Face cache."""
    from server.commands.keeping import rm as run

    run(_repository(repository), "@" not in repository, yes, config)


@app.command()
def ps(
    url: Annotated[str, typer.Option(help="Of the server; as configured if absent.")] = "",
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Tell what a running server has in memory."""
    from server.commands.asking import ps as run

    run(config, url, as_json)


@config_app.command("check")
def check(file: Path) -> None:
    """Say what is wrong with a configuration file, or that nothing is."""
    from server.commands.serving import check as run

    run(file)


SCRIPT: dict[str, Any] = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],  # the script has its own
}


@bench_app.command("load", context_settings=SCRIPT)
def bench_load(context: typer.Context) -> None:
    """Put load on a server of any of the dialects, and tell how it bore it."""
    _bench("load").main(context.args)


@bench_app.command("engine", context_settings=SCRIPT)
def bench_engine(context: typer.Context) -> None:
    """Measure what paints, on its own and served, family by family."""
    _bench("engine").main(context.args)


@bench_app.command("serving", context_settings=SCRIPT)
def bench_serving(context: typer.Context) -> None:
    """Measure what serving costs beside painting, with the shipped model."""
    _bench("serving").main(context.args)


@bench_app.command("peers", context_settings=SCRIPT)
def bench_peers(context: typer.Context) -> None:
    """Put the same load on other ways to serve the same pipeline."""
    _bench("peers.run").main(context.args)


@bench_app.command("publish", context_settings=SCRIPT)
def bench_publish(context: typer.Context) -> None:
    """Write the figures that were kept into the documents."""
    _bench("publish").main(context.args)


def _bench(script: str) -> ModuleType:
    """A script of the `bench` folder, which is in a checkout but in no installed package."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    try:
        return importlib.import_module(f"bench.{script}")
    except ModuleNotFoundError as error:
        if error.name == "bench":
            raise SystemExit("limner bench works in a checkout of limner's sources") from None
        raise SystemExit(f"limner bench needs {error.name}: install limner[dev]") from None


def _repository(text: str) -> "Repository":
    """What ORG/NAME[@REVISION] names."""
    from server.library.snapshots import Repository

    try:
        return Repository.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r:.200} {error}", param_hint="ORG/NAME") from None


def _named(text: str) -> tuple[str, str]:
    """The two halves of NAME=PATH."""
    name, mark, path = text.partition("=")
    if not (name and mark and path):
        raise typer.BadParameter(
            f'{text!r} must be like "sdxl=~/models/sdxl"', param_hint="--model"
        )
    return name, path


def main() -> None:
    """The entry point of the console script."""
    app()
