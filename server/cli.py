"""The `limner` command. Imports what a command needs when it runs, so that `--help` is instant."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="A local image inference server.", no_args_is_help=True, add_completion=False
)
config_app = typer.Typer(help="Look at configuration files.", no_args_is_help=True)
app.add_typer(config_app, name="config")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A TOML file; the shipped demo.toml if absent.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    config: ConfigFile = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH: serve this checkpoint, needing no file. Repeatable."),
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
    from server.commands import serve as run

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
    from server.commands import Sitting
    from server.commands import paint as run

    sitting = Sitting(out, model, prompt, negative, seed, steps, guidance, size, image, mask)
    run(config, {"worker": {"device": device}}, sitting)


@app.command()
def models(config: ConfigFile = None) -> None:
    """List the configured models."""
    from server.commands import models as run

    run(config)


@config_app.command("check")
def check(file: Path) -> None:
    """Say what is wrong with a configuration file, or that nothing is."""
    from server.commands import check as run

    run(file)


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
