"""Readers of the official DiT and of LDM's encoder of tokens."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from continuous_diffusion.checkpoints.files import filled, without_prefix
from continuous_diffusion.dit import DiT
from continuous_diffusion.token_encoder import TokenEncoder

CONDITION_STAGE = "cond_stage_model."
_DIT_ARGUMENTS = {
    "input_size": 32,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 1152,
    "depth": 28,
    "num_heads": 16,
    "mlp_ratio": 4.0,
    "class_dropout_prob": 0.1,
    "num_classes": 1000,
    "learn_sigma": True,
}
_DIT_PLACES = {
    "stem": "x_embedder.proj",
    "time.hidden": "t_embedder.mlp.0",
    "time.out": "t_embedder.mlp.2",
    "labels": "y_embedder.embedding_table",
    "modulation": "final_layer.adaLN_modulation.1",
    "head": "final_layer.linear",
}
_DIT_PARTS = {
    "attention.qkv": "attn.qkv",
    "attention.out": "attn.proj",
    "expand": "mlp.fc1",
    "contract": "mlp.fc2",
    "modulation": "adaLN_modulation.1",
}
_BERT_ARGUMENTS = {"n_embed", "n_layer", "vocab_size", "max_seq_len"}
_BERT_WITHOUT_EFFECT = {"use_tokenizer", "device", "embedding_dropout"}
_BERT_PLACES = {
    "tokens": ["token_emb"],
    "positions": ["pos_emb.emb"],
    "norm": ["norm"],
    "head": ["to_logits"],
}
_BERT_PARTS = {
    "norm": (0, ["0"]),
    "attention.qkv": (0, ["1.to_q", "1.to_k", "1.to_v"]),
    "attention.out": (0, ["1.to_out"]),
    "norm_feed": (1, ["0"]),
    "expand": (1, ["1.net.0.0"]),
    "contract": (1, ["1.net.2"]),
}


def from_dit(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> DiT:
    """The official DiT, in evaluation mode; `config` holds its constructor arguments, defaults are those of XL/2.

    Its steps count from 1 here. Positions are computed; those of the file must be the same.

    Raises KeyError that names the parameters missing or left over, ValueError for a config or a shape that differs.
    """
    if unknown := set(config) - set(_DIT_ARGUMENTS):
        raise ValueError(f"config: {sorted(unknown)} are not known arguments of DiT")
    options = _DIT_ARGUMENTS | dict(config)
    side = options["input_size"]
    dit = DiT(
        in_channels=options["in_channels"],
        out_channels=options["in_channels"],
        grid=(side, side),
        patch=options["patch_size"],
        width=options["hidden_size"],
        depth=options["depth"],
        heads=options["num_heads"],
        feed_forward=int(options["mlp_ratio"]),
        classes=options["num_classes"],
        null_class=options["class_dropout_prob"] > 0,
        learned_variance=options["learn_sigma"],
    )
    given = dict(state_dict)
    positions = given.pop("pos_embed", None)
    if positions is not None and (
        positions.shape[1:] != dit.positions.shape or not torch.allclose(positions[0], dit.positions, atol=1e-5)
    ):
        raise ValueError(f"pos_embed: {tuple(positions.shape)}, not the sines and cosines of {side} x {side} patches")
    return filled(dit, given, {name: [_dit_source(name)] for name in dit.state_dict()})


def token_encoder_from_compvis(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> TokenEncoder:
    """LDM's `BERTEmbedder`, in evaluation mode; `config` holds its constructor arguments.

    Of a whole checkpoint the part under `cond_stage_model.` is read.

    Raises KeyError that names the parameters missing or left over, ValueError for a config or a shape that differs.
    """
    if unknown := set(config) - _BERT_ARGUMENTS - _BERT_WITHOUT_EFFECT:
        raise ValueError(f"config: {sorted(unknown)} are not known arguments of BERTEmbedder")
    encoder = TokenEncoder(
        vocabulary=config.get("vocab_size", 30522),
        length=config.get("max_seq_len", 77),
        width=config["n_embed"],
        depth=config["n_layer"],
    )
    given = without_prefix(without_prefix(state_dict, CONDITION_STAGE), "transformer.")
    return filled(encoder, given, {name: _bert_sources(name) for name in encoder.state_dict()})


def _dit_source(name: str) -> str:
    module, _, leaf = name.rpartition(".")
    if module in _DIT_PLACES:
        leaf = leaf if module != "labels" else "weight"
        return f"{_DIT_PLACES[module]}.{leaf}"
    _, index, part = module.split(".", 2)
    return f"blocks.{index}.{_DIT_PARTS[part]}.{leaf}"


def _bert_sources(name: str) -> list[str]:
    module, _, leaf = name.rpartition(".")
    if module in _BERT_PLACES:
        return [f"{place}.{leaf}" for place in _BERT_PLACES[module]]
    _, index, part = module.split(".", 2)
    offset, places = _BERT_PARTS[part]
    return [f"attn_layers.layers.{2 * int(index) + offset}.{place}.{leaf}" for place in places]
