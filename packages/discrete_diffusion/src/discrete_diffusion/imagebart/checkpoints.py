"""Reading the official ImageBART checkpoints: one file for each scale, or one for all that share a network."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from discrete_diffusion.imagebart.decoder_only import DecoderOnly
from discrete_diffusion.imagebart.encoder_decoder import EncoderDecoder
from discrete_diffusion.released_files import load_checkpoint

_ENCODER_DECODER = {
    *("dim", "enc_num_tokens", "enc_depth", "enc_heads", "enc_max_seq_len", "dec_num_tokens", "dec_depth"),
    *("dec_heads", "dec_max_seq_len", "tie_token_emb", "wrap_decoder", "scale_pos", "n_scales", "xt_start", "xt_size"),
}
_GPT = {"vocab_size", "input_vocab_size", "block_size", "n_layer", "n_head", "n_embd", "n_unmasked"}
_GPT |= {"embd_pdrop", "resid_pdrop", "attn_pdrop"}
_UNUSED = re.compile(r"encoder\.to_logits\.(weight|bias)|blocks\.\d+\.attn\.mask")
_LAYER = re.compile(r"(encoder|decoder)\.attn_layers\.layers\.(\d+)\.([01])\.(.+)")
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias)")

_NAMES = {
    "log_scalors": "log_scales",
    "encoder.token_emb.weight": "source_tokens.weight",
    "encoder.pos_emb.emb.weight": "source_positions.weight",
    "encoder.norm": "encoder_norm",
    "decoder.token_emb.weight": "tokens.weight",
    "decoder.pos_emb.emb.weight": "positions.weight",
    "decoder.norm": "norm",
    "decoder.to_logits": "logits",
    "tok_emb.weight": "tokens.weight",
    "pos_emb": "positions.weight",
    "ln_f": "norm",
    "head": "logits",
}
_SUBLAYERS = {
    "encoder": (("self_norm", "self_attention"), ("norm", "")),
    "decoder": (("self_norm", "self_attention"), ("cross_norm", "cross_attention"), ("norm", "")),
}
_BLOCK_PARTS = {
    "ln1": "self_norm",
    "attn.query": "self_attention.query",
    "attn.key": "self_attention.key",
    "attn.value": "self_attention.value",
    "attn.proj": "self_attention.project",
    "ln2": "norm",
    "mlp.0": "expand",
    "mlp.2": "contract",
}
_INSIDE = {
    "to_q.weight": "query.weight",
    "to_k.weight": "key.weight",
    "to_v.weight": "value.weight",
    "to_out.weight": "project.weight",
    "to_out.bias": "project.bias",
    "net.0.0.weight": "expand.weight",
    "net.0.0.bias": "expand.bias",
    "net.2.weight": "contract.weight",
    "net.2.bias": "contract.bias",
}


@dataclass(frozen=True)
class OfficialScale:
    """What an official checkpoint holds of a scale.

    Attributes:
        kind: which of our networks it is.
        arguments: of its constructor.
        tensors: its weights under our names.
        keep: `abar_0 .. abar_n` of the schedule it was trained with.
        scale: the one scale that it serves, or None for all.
    """

    kind: type[EncoderDecoder] | type[DecoderOnly]
    arguments: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    keep: Sequence[float]
    scale: int | None

    def build(self) -> EncoderDecoder | DecoderOnly:
        """The network with these weights.

        Raises:
            ValueError: if tensors are left over, missing or of the wrong shape.
        """
        model = self.kind(**self.arguments)
        self.load(model)
        return model

    def load(self, model: nn.Module) -> None:
        """Put the weights into a network built with these arguments, position tables cut to its length.

        Raises:
            ValueError: if tensors are left over, missing or of the wrong shape.
        """
        expected, tensors = model.state_dict(), dict(self.tensors)
        left_over, missing = sorted(tensors.keys() - expected.keys()), sorted(expected.keys() - tensors.keys())
        if left_over or missing:
            raise ValueError(f"state_dict does not fit config: no place for {left_over}, nothing for {missing}")
        for key, value in expected.items():
            if key in ("positions.weight", "source_positions.weight"):
                tensors[key] = tensors[key].flatten(0, -2)[: len(value)]
            if tensors[key].shape != value.shape:
                raise ValueError(
                    f"state_dict does not fit config: {key} is {tuple(tensors[key].shape)}, not {tuple(value.shape)}"
                )
        model.load_state_dict(tensors)


def from_imagebart(
    state_dict: Mapping[str, Tensor],
    config: Mapping[str, Any],
    *,
    averaged: bool = True,
    prefix: int | None = None,
    grid: Sequence[int] | None = None,
) -> EncoderDecoder | DecoderOnly:
    """The denoiser of one official checkpoint: an encoder-decoder, or the last scale's GPT; see `read_imagebart`.

    Source: ImageBART encoder-decoder scales, decoder-only scale
    """
    return read_imagebart(state_dict, config, averaged=averaged, prefix=prefix, grid=grid).build()


def load_imagebart(path: str | Path) -> dict[str, Tensor]:
    """The `state_dict` of an official `.ckpt` file, or of a `.safetensors` file with the same keys.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds objects that would have to be unpickled, or no ImageBART model.
    """
    loaded = load_checkpoint(path)
    tensors = {key: v for key, v in loaded.get("state_dict", loaded).items() if isinstance(v, Tensor)}
    if "alphacum" not in tensors:
        raise ValueError(f"{path} holds no ImageBART model; its entries are {sorted(loaded)[:8]}")
    return tensors


def read_imagebart(
    state_dict: Mapping[str, Tensor],
    config: Mapping[str, Any],
    *,
    averaged: bool = True,
    prefix: int | None = None,
    grid: Sequence[int] | None = None,
) -> OfficialScale:
    """Everything that an official checkpoint says of its scale.

    The first stage in the file is passed over. Position tables longer than the tokens, as some released files have
    them, are cut; what is cut is never read.

    Args:
        state_dict: the file's `state_dict` entry, see `load_imagebart`.
        config: the model's arguments under their official names: what stands under `params` in the official YAML.
        averaged: read the moving average of the weights, with which the official code samples, or the weights as such.
        prefix: number of tokens that condition; 1 where the configuration has a conditioner, else 0, unless given.
        grid: (h, w) of the tokens; square unless given.

    Raises:
        KeyError: if the file has no schedule, or the configuration lacks an argument.
        ValueError: if an option is unknown, there is no moving average, or the file has another number of scales than
            the configuration.
    """
    while "transformer_config" not in config and ("model" in config or "params" in config):
        config = config["model"] if "model" in config else config["params"]
    keep = [float(p) for p in state_dict["alphacum"]]
    if len(keep) != config["n_scales"] + 1:
        raise ValueError(
            f"config: n_scales = {config['n_scales']}, but the checkpoint's schedule has {len(keep) - 1} scales"
        )
    if prefix is None:
        prefix = int(config.get("conditioner_config") is not None)
    options, scale = config["transformer_config"]["params"], config.get("single_scale")
    tensors = _renamed(_network(state_dict, averaged=averaged))
    if "block_size" in options:
        return OfficialScale(DecoderOnly, _decoder_only(options, prefix=prefix, grid=grid), tensors, keep, scale)
    arguments = _encoder_decoder(options, tensors, prefix=prefix, grid=grid)
    arguments["start_token"] = int(state_dict["sos_token"][0])
    if "log_scales" in tensors:
        arguments["keep"] = keep
    return OfficialScale(EncoderDecoder, arguments, tensors, keep, scale)


def _network(state_dict: Mapping[str, Tensor], *, averaged: bool) -> dict[str, Tensor]:
    """The transformer's tensors without their prefix, or the moving averages under the same names."""
    network = {key.removeprefix("transformer."): v for key, v in state_dict.items() if key.startswith("transformer.")}
    network = {key: value for key, value in network.items() if not _UNUSED.fullmatch(key)}
    if not averaged:
        return network
    shadow = {"transformer_ema." + key.replace(".", ""): key for key in network}
    missing = sorted(shadow.keys() - state_dict.keys())
    if missing:
        raise ValueError(f"state_dict: no moving average for {missing}; read the weights as such (averaged=False)")
    return {key: state_dict[name] for name, key in shadow.items()}


def _encoder_decoder(
    options: Mapping[str, Any], tensors: Mapping[str, Tensor], *, prefix: int, grid: Sequence[int] | None
) -> dict[str, Any]:
    _known(options, _ENCODER_DECODER)
    if options.get("tie_token_emb"):
        raise ValueError("config: tie_token_emb = True is not supported; no released model ties its embeddings")
    if options["enc_heads"] != options["dec_heads"]:
        raise ValueError(f"config: enc_heads = {options['enc_heads']} and dec_heads = {options['dec_heads']} differ")
    inner = tensors["decoder.layers.0.self_attention.project.weight"].shape[1]
    return {
        "codes": options["dec_num_tokens"],
        "grid": _square(options["dec_max_seq_len"]) if grid is None else grid,
        "width": options["dim"],
        "encoder_depth": options["enc_depth"],
        "decoder_depth": options["dec_depth"],
        "heads": options["dec_heads"],
        "head_width": inner // options["dec_heads"],
        "prefix": prefix,
        "vocabulary": options["enc_num_tokens"],
    }


def _decoder_only(options: Mapping[str, Any], *, prefix: int, grid: Sequence[int] | None) -> dict[str, Any]:
    _known(options, _GPT)
    return {
        "codes": options["vocab_size"],
        "grid": _square(options["block_size"] - prefix) if grid is None else grid,
        "width": options["n_embd"],
        "depth": options["n_layer"],
        "heads": options["n_head"],
        "prefix": prefix,
        "vocabulary": options.get("input_vocab_size") or options["vocab_size"],
        "unmasked": options.get("n_unmasked", 0),
    }


def _known(options: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(options.keys() - known)
    if unknown:
        raise ValueError(f"config: transformer options {unknown} are not supported; known are {sorted(known)}")


def _square(positions: int) -> list[int]:
    """The largest square grid of so many positions; some released tables have a few too many."""
    return [math.isqrt(positions)] * 2


def _renamed(network: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = {_rename(key): value.to(torch.float32) for key, value in network.items()}
    for kind, parts in (("self_attention", ("query", "key", "value")), ("cross_attention", ("key", "value"))):
        for key in [key for key in tensors if f".{kind}.value." in key]:
            names = [key.replace(".value.", f".{part}.") for part in parts]
            if all(name in tensors for name in names):
                joined = torch.cat([tensors.pop(name) for name in names])
                tensors[key.replace(".value.", f".{'_'.join(parts)}.")] = joined
    return tensors


def _rename(key: str) -> str:
    """Our name of an official tensor; names that have none come back as they are, and are reported later."""
    for official, ours in _NAMES.items():
        if key == official or key.startswith(official + "."):
            return ours + key.removeprefix(official)
    if match := _LAYER.fullmatch(key):
        stack, sublayer, part, name = match.groups()
        kinds = _SUBLAYERS[stack]
        norm, module = kinds[int(sublayer) % len(kinds)]
        layer = f"{stack}.layers.{int(sublayer) // len(kinds)}"
        if part == "0":
            return f"{layer}.{norm}.{name}"
        return ".".join(filter(None, (layer, module, _INSIDE.get(name, name))))
    if (match := _BLOCK.fullmatch(key)) and match[2] in _BLOCK_PARTS:
        return f"decoder.layers.{match[1]}.{_BLOCK_PARTS[match[2]]}.{match[3]}"
    return key
