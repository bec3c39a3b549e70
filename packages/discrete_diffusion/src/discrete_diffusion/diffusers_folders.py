"""Folders of diffusers' VQ-Diffusion pipeline, read and written; diffusers itself is not needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from discrete_diffusion.blocks import FeedForward, LearnedTime
from discrete_diffusion.checkpoints import assemble
from discrete_diffusion.denoiser import TokenTransformer
from discrete_diffusion.forward_process import ForwardProcess
from discrete_diffusion.schedule import Schedule

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
TRANSFORMER, SCHEDULER, NULL = "transformer", "scheduler", "learned_classifier_free_sampling_embeddings"
_OFFICIAL = {
    "latent_image_embedding.": "content_emb.",
    "transformer_blocks.": "blocks.",
    ".norm1.": ".ln1.",
    ".norm2.": ".ln1_1.",
    ".norm3.": ".ln2.",
    ".to_q.": ".query.",
    ".to_k.": ".key.",
    ".to_v.": ".value.",
    ".to_out.0.": ".proj.",
    ".ff.net.0.proj.": ".mlp.0.",
    ".ff.net.2.": ".mlp.2.",
    "norm_out.": "to_logits.0.",
    "out.": "to_logits.1.",
}
_OURS = {
    "self_norm.embedding.table.": "norm1.emb.",
    "self_norm.modulation.": "norm1.linear.",
    "cross_norm.embedding.table.": "norm2.emb.",
    "cross_norm.modulation.": "norm2.linear.",
    "norm.": "norm3.",
    "self_attention.project.": "attn1.to_out.0.",
    "cross_attention.project.": "attn2.to_out.0.",
    "cross_attention.query.": "attn2.to_q.",
    "feedforward.expand.": "ff.net.0.proj.",
    "feedforward.contract.": "ff.net.2.",
}
_OURS_AROUND = {"tokens.": "emb.", "rows.": "height_emb.", "columns.": "width_emb."}
_JOINED = {"self_attention.query_key_value.": ("attn1", "qkv"), "cross_attention.key_value.": ("attn2", "kv")}
_FIXED = {"activation_fn": "geglu-approximate", "norm_type": "ada_norm", "attention_bias": True}


@dataclass(frozen=True)
class DiffusersParts:
    """What a folder holds for this package; the autoencoder (`vqvae/`) and the text encoder are others' to read."""

    denoiser: TokenTransformer
    process: ForwardProcess


def read_diffusers(folder: str | Path) -> DiffusersParts:
    """Denoiser and process of a folder with `transformer/`, `scheduler/` and maybe learned null embeddings.

    The text encoder beside them is `ClipText.from_pretrained(folder / "text_encoder", tokenizer=folder / "tokenizer")`.

    Raises:
        FileNotFoundError: a file is missing; weights are read from safetensors alone.
        ValueError: the weights are of another architecture, or the number of codes or steps disagrees.
    """
    path = Path(folder)
    config, schedule = _json(path / TRANSFORMER / CONFIG), _json(path / SCHEDULER / "scheduler_config.json")
    null = None
    if (path / NULL / CONFIG).is_file() and _json(path / NULL / CONFIG).get("learnable"):
        null = _weights(path / NULL / WEIGHTS)["embeddings"]
    denoiser = from_diffusers(_weights(path / TRANSFORMER / WEIGHTS), config, null=null)
    for name, key, found in (
        ("codes and the mask", "num_vec_classes", denoiser.codes + 1),
        ("steps", "num_train_timesteps", denoiser.steps),
    ):
        if schedule[key] != found:
            raise ValueError(f"scheduler: {key} = {schedule[key]}, but the transformer has {found} {name}")
    return DiffusersParts(denoiser, ForwardProcess(_schedule(schedule)))


def from_diffusers(
    state_dict: Mapping[str, Tensor], config: Mapping[str, Any], *, null: Tensor | None = None
) -> TokenTransformer:
    """The denoiser of a `Transformer2DModel` over vector-quantised tokens.

    Args:
        state_dict: its weights.
        config: its configuration.
        null: learned null states (l, d_c); without them the model has none, and `Guided` needs some.

    Raises:
        ValueError: the file belongs to another architecture; settings, keys and shapes are named.

    Source: VQ-Diffusion denoising transformer
    """
    for name, value in _FIXED.items():
        if config.get(name) != value:
            raise ValueError(f"config: {name} must be {value!r}, got {config.get(name)!r}")
    missing = [name for name in ("num_vector_embeds", "num_embeds_ada_norm", "sample_size") if not config.get(name)]
    if missing:
        raise ValueError(f"config: no {', '.join(missing)}; this is no transformer over vector-quantised tokens")
    grid = (config["sample_size"], config["sample_size"])
    official = {_official(key): value for key, value in state_dict.items()}
    if null is not None:
        official["empty_text_embed"] = null
    return assemble(
        official,
        {
            "codes": config["num_vector_embeds"] - 1,
            "grid": grid,
            "position_grid": grid,
            "steps": config["num_embeds_ada_norm"],
            "width": config["num_attention_heads"] * config["attention_head_dim"],
            "depth": config["num_layers"],
            "heads": config["num_attention_heads"],
            "condition_width": config["cross_attention_dim"],
            "null_length": 0 if null is None else len(null),
        },
    )


def write_diffusers(denoiser: TokenTransformer, schedule: Schedule, folder: str | Path) -> None:
    """Write `transformer/`, `scheduler/` and the null states as diffusers reads them.

    Raises:
        ValueError: diffusers has no such network or schedule; what it lacks is named.
    """
    _check_expressible(denoiser, schedule)
    block = denoiser.blocks[0]
    heads, width = block.get_submodule("self_attention").heads, denoiser.tokens.embedding_dim
    null = denoiser.null if denoiser.null is not None else torch.zeros(0, 0)
    config = {
        "_class_name": "Transformer2DModel",
        **_FIXED,
        "num_attention_heads": heads,
        "attention_head_dim": width // int(heads),  # type: ignore[arg-type]
        "num_layers": len(denoiser.blocks),
        "cross_attention_dim": null.shape[1],
        "sample_size": denoiser.grid[0],
        "num_vector_embeds": denoiser.codes + 1,
        "num_embeds_ada_norm": denoiser.steps,
    }
    scheduler = {
        "_class_name": "VQDiffusionScheduler",
        "num_vec_classes": denoiser.codes + 1,
        "num_train_timesteps": schedule.T,
        "alpha_cum_start": schedule.keep[1].item(),
        "alpha_cum_end": schedule.keep[-1].item(),
        "gamma_cum_start": schedule.mask[1].item(),
        "gamma_cum_end": schedule.mask[-1].item(),
    }
    learned = {
        "_class_name": "LearnedClassifierFreeSamplingEmbeddings",
        "learnable": len(null) > 0,
        "hidden_size": null.shape[1],
        "length": len(null),
    }
    path = Path(folder)
    _write(path / TRANSFORMER, config, _renamed(denoiser.state_dict()))
    _write(path / SCHEDULER, scheduler, None, name="scheduler_config.json")
    _write(path / NULL, learned, {"embeddings": null.detach().contiguous()} if len(null) else None)


def _check_expressible(denoiser: TokenTransformer, schedule: Schedule) -> None:
    block = denoiser.blocks[0]
    keep, mask = ((float(rate[1]), float(rate[-1])) for rate in (schedule.keep, schedule.mask))
    linear = Schedule.released(schedule.T, schedule.codes, keep=keep, mask=mask)
    lacks = {
        "a network without cross-attention": denoiser.null is None,
        "a grid that is no square": denoiser.grid[0] != denoiser.grid[1]
        or (denoiser.rows.num_embeddings, denoiser.columns.num_embeddings) != tuple(denoiser.grid),
        "sinusoidal times": not isinstance(block.get_submodule("self_norm.embedding"), LearnedTime),
        "such feed-forward nets": not isinstance(block.get_submodule("feedforward"), FeedForward)
        or denoiser.state_dict()["blocks.0.feedforward.expand.bias"].numel() != 4 * denoiser.tokens.embedding_dim,
        "depthwise convolutions": getattr(block, "convolution", None) is not None,
        "positions in every block": denoiser.positions_in_every_block,
        "a schedule that is not linear": not (
            torch.allclose(linear.keep, schedule.keep, rtol=0, atol=1e-12)
            and torch.allclose(linear.mask, schedule.mask, rtol=0, atol=1e-12)
        ),
        f"{schedule.codes} codes in the schedule and {denoiser.codes} in the denoiser": schedule.codes
        != denoiser.codes,
    }
    if found := [what for what, there in lacks.items() if there]:
        raise ValueError(f"diffusers has no VQ-Diffusion with {'; '.join(found)}; use save_pretrained instead")


def _schedule(config: Mapping[str, Any]) -> Schedule:
    keep = (config.get("alpha_cum_start", 0.99999), config.get("alpha_cum_end", 0.000009))
    mask = (config.get("gamma_cum_start", 0.000009), config.get("gamma_cum_end", 0.99999))
    return Schedule.released(config["num_train_timesteps"], config["num_vec_classes"] - 1, keep=keep, mask=mask)


def _official(key: str) -> str:
    """The name in the released code of one of diffusers' parameters."""
    for theirs, official in _OFFICIAL.items():
        if key.startswith(theirs) or (theirs.startswith(".") and theirs in key):
            key = key.replace(theirs, official, 1)
    return key


def _renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under diffusers' names."""
    renamed = {}
    for key, value in weights.items():
        if key == "null":
            continue
        if not key.startswith("blocks."):
            renamed[_around(key)] = value.contiguous()
            continue
        _, number, name = key.split(".", 2)
        block = f"transformer_blocks.{number}."
        joined = next((ours for ours in _JOINED if name.startswith(ours)), None)
        if joined is not None:
            attention, parts = _JOINED[joined]
            for part, tensor in zip(parts, value.chunk(len(parts)), strict=True):
                renamed[f"{block}{attention}.to_{part}.{name.removeprefix(joined)}"] = tensor.contiguous()
            continue
        ours = next(ours for ours in _OURS if name.startswith(ours))
        renamed[block + name.replace(ours, _OURS[ours], 1)] = value.contiguous()
    return renamed


def _around(key: str) -> str:
    for ours, theirs in _OURS_AROUND.items():
        if key.startswith(ours):
            return "latent_image_embedding." + key.replace(ours, theirs, 1)
    return key.replace("norm.", "norm_out.", 1).replace("logits.", "out.", 1)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; give the folder of a diffusers VQ-Diffusion pipeline")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; a .bin file is a pickle, which is not read: convert it first")
    return load_file(path)


def _write(path: Path, config: Mapping[str, Any], weights: dict[str, Tensor] | None, *, name: str = CONFIG) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if weights is not None:
        save_file(weights, path / WEIGHTS, metadata={"format": "pt"})
