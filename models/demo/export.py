"""Writes trained parts as a Stable Diffusion or FLUX folder: fp16 safetensors, clean configs."""

import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    StableDiffusionPipeline,
)

from models.demo.denoiser import BETAS, TIMES, Denoiser
from models.demo.flow import FlowDenoiser, second_tokenizer


def scheduler() -> DPMSolverMultistepScheduler:
    """DPM-Solver++ 2M on the schedule of the training."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=TIMES,
        beta_start=BETAS[0],
        beta_end=BETAS[1],
        beta_schedule="linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,  # means nothing to trailing steps, but its absence is warned of
    )


def pipeline(vae: AutoencoderKL, denoiser: Denoiser) -> StableDiffusionPipeline:
    parts: dict[str, Any] = {
        "vae": vae,
        "text_encoder": denoiser.text,
        "tokenizer": denoiser.tokenizer,
        "unet": denoiser.unet,
        "scheduler": scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
    }
    return StableDiffusionPipeline(**parts, requires_safety_checker=False)


def flow_pipeline(vae: AutoencoderKL, denoiser: FlowDenoiser) -> FluxPipeline:
    vae.register_to_config(shift_factor=0.0)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=denoiser.gist,
        tokenizer=denoiser.tokenizer,
        text_encoder_2=denoiser.words,
        tokenizer_2=second_tokenizer(denoiser.tokenizer),
        transformer=denoiser.transformer,
    )


def export(whole: DiffusionPipeline, folder: Path) -> None:
    """Writes the folder beside its place and swaps it in, so that no reader sees half of it."""
    fresh = folder.with_name(f"{folder.name}.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    halved = copy.deepcopy(whole).to(dtype=torch.float16)
    halved.save_pretrained(fresh, safe_serialization=True)
    for config in fresh.rglob("*.json"):
        clean(config)
    for weights in fresh.rglob("*.safetensors"):
        weights.chmod(0o644)  # safetensors writes them for the owner alone
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.stale"))
    fresh.rename(folder)
    shutil.rmtree(folder.with_name(f"{folder.name}.stale"), ignore_errors=True)


def clean(config: Path) -> None:
    """Drops paths of the training machine; adds what other schedulers read from ours."""
    values: dict[str, Any] = json.loads(config.read_text())
    values.pop("_name_or_path", None)
    if "dtype" in values:
        # Else a plain from_pretrained has the text encoder in half and the rest in full precision.
        values["dtype"] = "float32"
    if values.get("_class_name") == "DPMSolverMultistepScheduler":
        # DDIM and DDPM take these through from_config; our latents exceed -1..1.
        values |= {"clip_sample": False, "set_alpha_to_one": False, "lambda_min_clipped": -1e9}
    config.write_text(json.dumps(values, indent=2) + "\n")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every weight file, by its path in the folder."""
    files = sorted(folder.rglob("*.safetensors"))
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
