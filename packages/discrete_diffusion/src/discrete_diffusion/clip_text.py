"""CLIP's text transformer as a condition: captions to tokens to states. Needs the extra `clip`."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_diffusion._types import CaptionTokens, Hidden
from discrete_diffusion.captions import cut_and_pad
from discrete_diffusion.optional import optional

_PURPOSE = "CLIP's text encoder"
_UNUSED = ("logit_scale", "visual.", "input_resolution", "context_length", "vocab_size")
_NAMES = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.": "text_model.final_layer_norm.",
    "transformer.resblocks.": "text_model.encoder.layers.",
    ".attn.out_proj.": ".self_attn.out_proj.",
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}
_JOINT = re.compile(r"(.*)\.attn\.in_proj_(weight|bias)")


class ClipText(nn.Module):
    """CLIP's text transformer, frozen: tokens (b, l) to the states (b, l, d) after its last norm.

    Every state is divided by its length, as VQ-Diffusion does; the text projection is not applied to them.

    Args:
        model: a `transformers.CLIPTextModelWithProjection`; see `from_pretrained` and `from_vq_diffusion`.
        tokenizer: captions to lists of tokens, start and end included; None where captions are not used.
        normalise: divide each state by its length.

    Source: VQ-Diffusion text encoder
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[[list[str]], Sequence[Sequence[int]]] | None = None,
        *,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.normalise = model.eval().requires_grad_(False), tokenizer, normalise

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        tokenizer: str | Path | None = None,
        normalise: bool = True,
        **options: Any,  # noqa: ANN401
    ) -> "ClipText":
        """Read weights (safetensors, nothing is unpickled) and tokenizer from a folder or a hub repository.

        Args:
            name: folder or hub id, such as "openai/clip-vit-base-patch32".
            tokenizer: folder or hub id of the tokenizer, where it is another.
            normalise: divide each state by its length.
            options: for both, such as `revision` or `local_files_only`.

        Raises:
            ImportError: transformers is not installed.
            OSError: there are no such files, or no safetensors among them.
        """
        library = optional("transformers", "clip", _PURPOSE)
        model = library.CLIPTextModelWithProjection.from_pretrained(name, use_safetensors=True, **options)
        words = library.CLIPTokenizer.from_pretrained(name if tokenizer is None else tokenizer, **options)
        return cls(model, lambda captions: words(captions).input_ids, normalise=normalise)

    @classmethod
    def from_vq_diffusion(
        cls,
        state_dict: Mapping[str, Tensor],
        config: Mapping[str, Any] | None = None,
        *,
        tokenizer: Callable[[list[str]], Sequence[Sequence[int]]] | None = None,
    ) -> "ClipText":
        """Read the text encoder that is in an official VQ-Diffusion checkpoint, or CLIP's own key layout.

        Args:
            state_dict: the file's `model` entry or its `condition_emb.` part.
            config: `normalize` (True unless given) and `heads` (one for 64 channels unless given).
            tokenizer: captions to lists of tokens; the file has none.

        Raises:
            ImportError: transformers is not installed.
            ValueError: keys are missing, unknown or of another shape.
        """
        config = config or {}
        official = _text_part(state_dict)
        if missing := {"token_embedding.weight", "positional_embedding", "text_projection"} - official.keys():
            raise ValueError(f"state_dict holds no CLIP text encoder: nothing for {sorted(missing)}")
        library = optional("transformers", "clip", _PURPOSE)
        model = library.CLIPTextModelWithProjection(library.CLIPTextConfig(**_sizes(official, config)))
        renamed = _renamed(official)
        expected = {key: value for key, value in model.state_dict().items() if not key.endswith("position_ids")}
        wrong = renamed.keys() ^ expected.keys()
        wrong |= {key for key in renamed.keys() & expected.keys() if renamed[key].shape != expected[key].shape}
        if wrong:
            raise ValueError(f"state_dict holds no CLIP text encoder of this config: {', '.join(sorted(wrong)[:12])}")
        model.load_state_dict(renamed, strict=False)
        return cls(model, tokenizer, normalise=bool(config.get("normalize", True)))

    @property
    def length(self) -> int:
        """Most tokens of a caption, start and end included."""
        return int(self._configuration("max_position_embeddings"))

    def tokens(self, captions: Sequence[str]) -> CaptionTokens:
        """Tokens (b, l) of captions, padded with 0; one that is longer loses its end, with a warning that names it.

        Padding is seen by the denoiser: the released code pads with 0, that of transformers with the end token.

        Raises:
            ValueError: if there is no tokenizer.
        """
        if self.tokenizer is None:
            raise ValueError("tokenizer: this encoder has none; give one, or use from_pretrained")
        rows = self.tokenizer([caption.lower() for caption in captions])
        return cut_and_pad(rows, captions, self.length, last=1)

    def forward(self, tokens: CaptionTokens) -> Hidden:
        """States (b, l, d) of tokens (b, l); negative ones count as 0.

        Raises:
            ValueError: if l is longer than the encoder is, or tokens are out of range.
        """
        vocabulary = int(self._configuration("vocab_size"))
        if tokens.shape[1] > self.length:
            raise ValueError(f"tokens: {tokens.shape[1]} tokens do not fit the context of {self.length}; cut them")
        if bool((tokens >= vocabulary).any()):
            raise ValueError(f"tokens must be below {vocabulary}, got {tokens.max()}")
        states: Tensor = self.model.get_submodule("text_model")(input_ids=tokens.clamp_min(0)).last_hidden_state
        return F.normalize(states, dim=-1, eps=0.0) if self.normalise else states

    def pooled(self, tokens: CaptionTokens) -> Tensor:
        """Projected state at the end token (the largest), (b, 1, e), of length 1 if `normalise`."""
        states: Tensor = self.model.get_submodule("text_model")(input_ids=tokens.clamp_min(0)).last_hidden_state
        at_end = states[torch.arange(len(tokens), device=tokens.device), tokens.argmax(-1)]
        projected: Tensor = self.model.get_submodule("text_projection")(at_end)[:, None]
        return F.normalize(projected, dim=-1, eps=0.0) if self.normalise else projected

    def _configuration(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self.model.config, name)


def _text_part(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the text encoder under CLIP's names; those of a denoiser around it are left out."""
    parts = {}
    inside = any("condition_emb." in key for key in state_dict)
    for key, value in state_dict.items():
        if inside:
            _, found, key = key.partition("condition_emb.")
            if not found:
                continue
        if not key.startswith(_UNUSED):
            parts[key] = value.to(torch.float32)
    return parts


def _sizes(official: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary, width = official["token_embedding.weight"].shape
    layers = {key.split(".")[2] for key in official if key.startswith("transformer.resblocks.")}
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "projection_dim": official["text_projection"].shape[1],
        "num_hidden_layers": len(layers),
        "num_attention_heads": config.get("heads", max(width // 64, 1)),
        "max_position_embeddings": len(official["positional_embedding"]),
        "hidden_act": "quick_gelu",
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": 0,
    }


def _renamed(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in official.items():
        if key == "text_projection":
            renamed["text_projection.weight"] = value.T.contiguous()
            continue
        joint = _JOINT.fullmatch(key)
        parts = {"q": value} if joint is None else dict(zip("qkv", value.chunk(3), strict=True))
        for part, tensor in parts.items():
            name = key if joint is None else f"{joint[1]}.self_attn.{part}_proj.{joint[2]}"
            for theirs, ours in _NAMES.items():
                name = name.replace(theirs, ours)
            renamed[name] = tensor
    return renamed
