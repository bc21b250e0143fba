"""How the networks of a checkpoint are made to run fast on their device.

Asked once, when a checkpoint is adopted: changes its modules in place, and says how their forwards
are to be run. What a tuning costs in exactness is said where it is made.
"""

from typing import Any

import torch

from models.attention import fastest_first
from models.contract import ModelSpec
from models.device import channels_last
from models.graphs import Graphs
from models.linears import by_onednn
from models.merge import Forward, Way, plainly
from models.packing import with_packs
from models.shell import denoiser_name
from models.signatures import told_at_once


def tuned(pipe: Any, spec: ModelSpec, device: torch.device) -> Way:
    """Tune a pipeline whose parts are where they belong; how its shared forwards are run."""
    tell_at_once(pipe)
    stays = spec.offload != "all"  # else weights move between two forwards, and hooks move them
    if spec.tuning.compile and stays:
        way = compiling(pipe)
    elif stays:
        way = without_records(plainly)
        if device.type == "cpu":
            denoiser = getattr(pipe, denoiser_name(pipe))
            way = by_onednn(denoiser, with_packs(denoiser, way))
    else:
        way = plainly
    if device.type == "cuda":
        in_channels_last(pipe)
        way = fastest_first(device, way)
        if getattr(pipe, denoiser_name(pipe)).dtype == torch.float32:
            way = without_tf32(way)
        if spec.tuning.graphs and stays:
            way = Graphs(way)
    return way


def tell_at_once(pipe: Any) -> None:
    """Spare diffusers to find out over and over what the functions of a pipeline take: those of
    its scheduler for each picture, of its attention for each layer and step."""
    told_at_once(type(pipe.scheduler).step)
    told_at_once(type(pipe.scheduler).set_timesteps)
    for name in {"vae", denoiser_name(pipe)} & pipe.components.keys():
        for layer in pipe.components[name].modules():
            if (processor := getattr(layer, "processor", None)) is not None:
                told_at_once(type(processor).__call__)


def without_records(way: Way) -> Way:
    """The way, without what torch keeps of every tensor in case it is changed later or has to be
    told its share of an error. The same numbers; of a small network's time a twentieth is saved.

    What comes out is copied to tensors of the usual kind, for pipelines may change theirs. Not for
    what is compiled: it serves the mode alone in which it was compiled, and forwards without a rule
    are run in the usual one.
    """

    def run(forward: Forward) -> Any:
        if forward.rule is None:  # what such a module gives may be anything
            return way(forward)
        with torch.inference_mode():
            output = way(forward)
        return usual(output)

    return run


def usual(output: Any) -> Any:
    """A forward's output, tensors or lists of them, as tensors that may be changed."""
    if isinstance(output, torch.Tensor):
        return output.clone()
    if isinstance(output, list | tuple):
        return type(output)(usual(part) for part in output)
    return output


def compiling(pipe: Any) -> Way:
    """Have the pipeline's networks compiled when they are next run; how they are to be run then."""
    from models import compilation  # takes a second that only those pay who compile

    compilation.in_regions(getattr(pipe, denoiser_name(pipe)), pipe.vae.decoder)
    return compilation.bare_only(plainly)


def without_tf32(way: Way) -> Way:
    """The way, with convolutions of float32 that are as exact as it.

    torch has GPUs round what they multiply to ten bits, by a switch for the whole process, whose
    other checkpoints may be in other precisions: it is off only while a forward is run.
    """

    def run(forward: Forward) -> Any:
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            return way(forward)
        finally:
            torch.backends.cudnn.allow_tf32 = before

    return run


def in_channels_last(pipe: Any) -> None:
    """Lay the convolutions of a pipeline out for tensor cores.

    Transformers have none that matter, and those of VAEs for videos have a dimension more.
    """
    for name in {"vae", denoiser_name(pipe)} & pipe.components.keys():
        channels_last(pipe.components[name])
