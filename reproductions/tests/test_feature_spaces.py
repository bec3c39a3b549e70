"""Feature spaces of tables, and what scores Table 1's samples in them."""

import json
import re
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reproductions.artefacts import Desk
from reproductions.data import DataSettings, Split
from reproductions.feature_spaces import check, space_of
from reproductions.frozen_texts import whole_clip
from reproductions.pipeline import Foreign, plan
from reproductions.profiles import PROFILES
from reproductions.runner import Silence
from reproductions.stages import scoring
from reproductions.table1 import TABLE

WORDS = ["<|startoftext|>", "<|endoftext|>", *(letter + end for letter in "abcde" for end in ("", "</w>"))]

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of one layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 8,
    }
    text = {**sizes, "vocab_size": len(WORDS), "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def test_samples_get_a_clip_score(clip: Path, tmp_path: Path) -> None:
    """Oracle: transformers' whole model, which gives all cosines of images and captions at once.

    Checks: CLIPScore definition
    """
    import transformers

    images = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8)
    captions = (("a",), ("b c", "d"), ("e e e",))
    Split(images, captions).save(tmp_path / "data" / "held_out")
    for name in ("images", "clip", "out"):
        (tmp_path / name).mkdir()
    save_file({"images": images}, tmp_path / "images" / "images.safetensors")
    (tmp_path / "clip" / "encoder").symlink_to(clip)
    inputs = {name: tmp_path / name for name in ("data", "images", "clip")}
    scoring.fit_captions(Desk(tmp_path / "out", scoring.Fitting(3, "vit-tiny"), inputs, Silence(), tmp_path))
    ((name, found),) = json.loads((tmp_path / "out" / "scores.json").read_text()).items()
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    words = transformers.CLIPTokenizerFast.from_pretrained(clip)(
        [c[0] for c in captions], padding=True, return_tensors="pt"
    )
    mean, std = (
        torch.tensor(v).view(3, 1, 1)
        for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    with torch.no_grad():
        whole = model(**words, pixel_values=(images / 255 - mean) / std)
    cosines = whole.logits_per_image.diagonal() / model.logit_scale.exp()
    assert name == "CLIP score[clip-vit-tiny, x100]"
    assert found["value"] == pytest.approx(100 * cosines.clamp_min(0).mean().item(), abs=1e-3)
    assert found["n_fake"] == 3


def test_what_scores_besides_is_planned(clip: Path) -> None:
    """Without them, Table 1's stages stay as they are."""
    profile, data = PROFILES["smoke"], DataSettings(train_size=8, held_out_size=8)
    rows = [row for row in TABLE.measured if row.approach == "LDM"]
    besides = Foreign(space=scoring.Space(), clip=whole_clip(str(clip)))
    (plain,), (more,) = (plan(rows, profile, data, (0,), each).runs["LDM"].values() for each in (Foreign(), besides))
    assert [stage.digest for stage in plain.scores] == [more.scores[0].digest]
    assert [stage.name for stage in more.scores[1:]] == ["LDM seed 0 feature scores", "LDM seed 0 CLIP score"]
    assert more.scores[2].settings == scoring.Fitting(profile.samples, clip.name)
    assert more.scores[1].inputs["real"].settings == scoring.Reference(scoring.Space(), profile.held_out_size)


def test_an_encoder_of_the_hub_is_asked_for_its_weights(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any work; where there is no network, the copy that was fetched before is looked at."""
    found = ["config.json", "pytorch_model.bin"]

    def listed(api: object, repository: str, *, revision: str) -> list[str]:
        if not found:
            raise ConnectionError
        assert (repository, revision) == ("owner/vit-tiny", clip.name)
        return found

    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, name: str(clip / name))
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", listed)
    with pytest.raises(ValueError, match=r"--clip: owner/vit-tiny holds no \*\.safetensors"):
        whole_clip("owner/vit-tiny")
    found.append("model.safetensors")
    taken = whole_clip("owner/vit-tiny")
    assert (taken.repository, taken.commit, taken.name) == ("owner/vit-tiny", clip.name, "vit-tiny")
    found.clear()
    assert whole_clip("owner/vit-tiny") == taken


def test_the_size_of_the_paper_has_the_paper_s_space() -> None:
    assert space_of(None, "paper") == scoring.Space(name="inception-legacy_tensorflow")
    assert space_of("pixels", "paper") == scoring.Space()
    assert space_of(None, "cpu") is None


def test_what_is_missing_is_missed_before_any_work(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="--features: there is no feature space and no file 'inseption'"):
        space_of("inseption", "cpu")
    monkeypatch.setenv("DIFFUSION_EVALUATION_INCEPTION", str(tmp_path / "nowhere.pth"))
    with pytest.raises(FileNotFoundError, match=re.escape(f"the Inception weights are {tmp_path / 'nowhere.pth'}")):
        check(scoring.Space(name="inception"))
    check(scoring.Space(drawings="shapes"))
    with pytest.raises(ValueError, match="--clip: there is no"):
        whole_clip(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip_text_model"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="--clip: the model_type of .* is 'clip_text_model'; give a CLIP of images"):
        whole_clip(str(tmp_path))
