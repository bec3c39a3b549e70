"""Spaces of other libraries' networks, with tiny random weights, against calling those networks by hand."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from diffusion_evaluation import (
    MissingWeights,
    clip_space,
    clip_texts,
    dinov2_space,
    open_clip_space,
    torch_fidelity_space,
)
from diffusion_evaluation.pretrained import CLIP_MEAN, CLIP_STD, Centred, Squared


def images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def standardised(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((pixels / 255 - CLIP_MEAN) / CLIP_STD).float().permute(2, 0, 1)


@pytest.mark.parametrize(("height", "width"), [(40, 64), (20, 21), (28, 28)])
def test_preparations_are_pillows(height: int, width: int) -> None:
    """Wide images: of tall ones Pillow 13 shrinks the height first, earlier versions the width, as here."""
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is no requirement of this package")
    batch = images(1, 3, height, width)
    picture = pillow.fromarray(batch[0].permute(1, 2, 0).numpy())
    tall, wide = (int(32 * side / min(height, width)) for side in (height, width))
    left, top = round((wide - 28) / 2), round((tall - 28) / 2)
    resized = picture.resize((wide, tall), pillow.Resampling.BICUBIC)
    expected = standardised(np.asarray(resized)[top : top + 28, left : left + 28])
    torch.testing.assert_close(Centred(32, 28, CLIP_MEAN, CLIP_STD)(batch)[0], expected, rtol=0, atol=1e-6)
    squared = standardised(np.asarray(picture.resize((28, 28), pillow.Resampling.BICUBIC)))
    torch.testing.assert_close(Squared(28, CLIP_MEAN, CLIP_STD)(batch)[0], squared, rtol=0, atol=1e-6)


def test_clip_and_dinov2_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    clip = transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(intermediate_size=32, projection_dim=8, **sizes)
    ).eval()
    dino = transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).eval()
    clip.save_pretrained(tmp_path / "tiny-clip")
    dino.save_pretrained(tmp_path / "tiny-dino")
    batch = images(2, 3, 28, 28)
    space = clip_space(tmp_path / "tiny-clip")
    assert (space.name, len(space.sha256)) == ("clip-tiny-clip", 64)
    assert clip_space(tmp_path / "tiny-clip", name="b").name == "clip-b"
    with torch.no_grad():
        expected = clip(torch.stack([standardised(x.permute(1, 2, 0).numpy()) for x in batch])).image_embeds
    torch.testing.assert_close(space(batch), expected, rtol=1e-5, atol=1e-6)
    space = dinov2_space(tmp_path / "tiny-dino", side=28)
    prepared = (batch / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        expected = dino(prepared).last_hidden_state[:, 0]
    assert space.name == "dinov2-tiny-dino"
    torch.testing.assert_close(space(batch), expected, rtol=1e-5, atol=1e-6)


def test_captions_are_embedded_by_the_text_half_of_clip(tmp_path: Path) -> None:
    """Oracle: transformers' model on tokens written by hand; a caption of five words is cut to the six that fit.

    Checks: CLIPScore definition
    """
    transformers = pytest.importorskip("transformers")
    words = ["<|startoftext|>", "<|endoftext|>", *(letter + end for letter in "abcde" for end in ("", "</w>"))]
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), max_position_embeddings=6, projection_dim=8, bos_token_id=0, eos_token_id=1, **sizes
    )
    model = transformers.CLIPTextModelWithProjection(config).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    embedded = clip_texts(tmp_path)(["a", "b a", "a b c d e"])
    one, two, cut = [0, 3, 1], [0, 5, 3, 1], [0, 3, 5, 7, 9, 1]
    with torch.no_grad():
        expected = [model(torch.tensor([ids])).text_embeds[0] for ids in (one, two, cut)]
    torch.testing.assert_close(embedded, torch.stack(expected), rtol=1e-5, atol=1e-6)


class Visual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image_size = (6, 6)
        self.project = nn.Linear(108, 5)


class Embedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = Visual()

    def encode_image(self, batch: torch.Tensor) -> torch.Tensor:
        return self.visual.project(batch.flatten(1))


def test_open_clip_gives_its_image_embeddings() -> None:
    model = Embedder()
    batch = images(2, 3, 6, 6)
    prepared = torch.stack([standardised(x.permute(1, 2, 0).numpy()) for x in batch])
    space = open_clip_space(model, "tiny")
    assert space.name == "open-clip-tiny"
    torch.testing.assert_close(space(batch), model.encode_image(prepared).detach(), rtol=1e-5, atol=1e-5)


def test_open_clip_itself() -> None:
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 28, "layers": 1, "width": 64, "patch_size": 14}
    text = {"context_length": 8, "vocab_size": 20, "width": 64, "heads": 1, "layers": 1}
    model = open_clip.model.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text).eval()
    batch = images(2, 3, 28, 28)
    with torch.no_grad():
        expected = model.encode_image(torch.stack([standardised(x.permute(1, 2, 0).numpy()) for x in batch]))
    torch.testing.assert_close(open_clip_space(model, "tiny")(batch), expected, rtol=1e-5, atol=1e-5)


class Extractor(nn.Module):
    def __init__(self, *features: str) -> None:
        super().__init__()
        self.name, self.features_list = "toy", list(features)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert batch.dtype == torch.uint8
        return tuple(self.scale * batch.float().mean(dim=(2, 3)) for _ in self.features_list)


def test_an_extractor_of_torch_fidelity_takes_bytes() -> None:
    batch = images(3, 3, 4, 4)
    space = torch_fidelity_space(Extractor("64"))
    assert space.name == "toy-64"
    torch.testing.assert_close(space(batch), 2 * batch.float().mean(dim=(2, 3)))
    with pytest.raises(ValueError, match=r"one feature is wanted, this one has \['64', '192'\]"):
        torch_fidelity_space(Extractor("64", "192"))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"no {name}")

    fake = SimpleNamespace(Dinov2Model=SimpleNamespace(from_pretrained=absent))
    monkeypatch.setitem(sys.modules, "transformers", fake)
    with pytest.raises(MissingWeights, match=r"no Dinov2Model is at 'models/x'.*no models/x.*Without it: every score"):
        dinov2_space("models/x")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs transformers: pip install 'diffusion-evaluation\[embedd"):
        clip_space()
