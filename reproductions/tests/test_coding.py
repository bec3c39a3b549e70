"""Codes of training pictures, written batch by batch, against those that are kept in memory and written at once."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from reproductions.artefacts import Desk
from reproductions.data import DataSettings, Split
from reproductions.gathering.rows import Rows
from reproductions.stages import autoencoding, codes, coding, preparing
from reproductions.stages.autoencoding import PRESETS, to_signed
from reproductions.tests.tracks import Track

IMAGES = torch.randint(256, (7, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
BATCHES = IMAGES.split(3)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    """Pictures, and autoencoders that were not trained."""
    root = tmp_path_factory.mktemp("inputs")
    Split(IMAGES, ((),) * 7).save(root / "data" / "train")
    torch.manual_seed(0)
    for name in ("vq-f4-32", "kl-f4-32"):
        PRESETS[name].build().save_pretrained(root / name / "autoencoder")
    return {path.name: path for path in root.iterdir()}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch) -> None:
    monkeypatch.setattr(codes, "BATCH", 3)


def signed(flip: bool) -> list[Tensor]:
    """Batches of the pictures, and with `flip` of the same mirrored."""
    return [to_signed(x) for x in BATCHES] + [to_signed(x).flip(-1) for x in BATCHES if flip]


@torch.inference_mode()
def tokens(autoencoder, *, flip: bool) -> dict[str, Tensor]:
    found = torch.cat([autoencoder.encode(x).indices for x in signed(flip)])
    return {"tokens": found.flatten(1).unflatten(0, (-1, 7)), "grid": torch.tensor([8, 8]), "codes": torch.tensor(256)}


@torch.inference_mode()
def unquantised(autoencoder, *, flip: bool) -> dict[str, Tensor]:
    mean = torch.cat([autoencoder.latents(x) for x in signed(flip)])
    shift, scale = mean.mean((0, 2, 3)), 1 / mean.std((0, 2, 3))
    mean = (mean - shift[:, None, None]) * scale[:, None, None]
    deviation = torch.zeros(mean.shape[0] // 7, 7, 1, 1, 1)
    return {"mean": mean.unflatten(0, (-1, 7)), "deviation": deviation, "shift": shift, "scale": scale}


@torch.inference_mode()
def posteriors(autoencoder, *, flip: bool) -> dict[str, Tensor]:
    found = [autoencoder.encode(x, sample=False) for x in signed(flip)]
    mean = torch.cat([each.values for each in found]).unflatten(0, (-1, 7))
    deviation = torch.cat(
        [each.log_variance.mul(0.5).exp() * autoencoder.latent_scale[:, None, None] for each in found]
    )
    whole = {"shift": torch.zeros(4), "scale": torch.ones(4)}
    return {"mean": mean, "deviation": deviation.unflatten(0, (-1, 7)), **whole}


@pytest.mark.parametrize(
    ("encode", "name", "at_once"),
    [
        (coding.encode_tokens, "vq-f4-32", tokens),
        (coding.encode_latents, "vq-f4-32", unquantised),
        (coding.encode_latents, "kl-f4-32", posteriors),
    ],
)
@pytest.mark.parametrize("flip", [False, True])
def test_codes_are_the_same_bytes_as_those_written_at_once(
    encode, name: str, at_once, flip: bool, inputs, tmp_path: Path, monkeypatch
) -> None:
    """Oracle: `save_file` of all; the encoding is killed after every second batch, and no batch is written twice."""
    desk = Desk(tmp_path, coding.Encoding(flip), {**inputs, "autoencoder": inputs[name]}, Track(), tmp_path)
    expected = at_once(coding.load_autoencoder(inputs[name]), flip=flip)
    save_file({n: tensor.contiguous() for n, tensor in expected.items()}, tmp_path / "expected")
    written = killed_after_two(encode, desk, monkeypatch)
    views = 2 if flip else 1
    assert written == 3 * views + (math.ceil(7 * views / 3) if at_once is unquantised else 0)
    assert (tmp_path / "clean.safetensors").read_bytes() == (tmp_path / "expected").read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"clean.safetensors", "expected"}


def test_the_codes_of_table_1_are_the_same_bytes_too(inputs, tmp_path: Path, monkeypatch) -> None:
    """Oracle: likewise; its files have no axis of views."""
    autoencoder = coding.load_autoencoder(inputs["kl-f4-32"])
    expected = {name: posteriors(autoencoder, flip=False)[name][0].contiguous() for name in ("mean", "deviation")}
    save_file(expected, tmp_path / "expected")
    desk = Desk(tmp_path, None, {**inputs, "autoencoder": inputs["kl-f4-32"]}, Track(), tmp_path)
    assert killed_after_two(autoencoding.encode_kl, desk, monkeypatch) == 3
    assert (tmp_path / "clean.safetensors").read_bytes() == (tmp_path / "expected").read_bytes()


def killed_after_two(encode, desk: Desk, monkeypatch) -> int:
    """Encode, and begin again whenever two batches were written; returns how many were written in all."""
    write, allowed, written = Rows.write, 2, 0

    def counted(rows: Rows, *args, **parts) -> None:
        nonlocal allowed, written
        if not allowed:
            raise KeyboardInterrupt
        allowed, written = allowed - 1, written + 1
        write(rows, *args, **parts)

    monkeypatch.setattr(Rows, "write", counted)
    while True:
        try:
            encode(desk)
            return written
        except KeyboardInterrupt:
            allowed = 2


def test_a_stage_that_reads_ends_with_its_files_alone(photographs: Path, tmp_path: Path) -> None:
    """Interrupted at the second of two training pictures, and once more when all is done but the stage."""
    data = DataSettings(name=str(photographs), resolution=8, train_size=9, held_out_size=1)
    (photographs / "metadata.jsonl").write_text(
        "\n".join(f'{{"file_name": "{name}.png", "text": "{name}"}}' for name in "abc")
    )
    (tmp_path / "read").mkdir()
    reading = preparing.Reading(data, "")
    with pytest.raises(KeyboardInterrupt):
        preparing.read(Desk(tmp_path / "read", reading, {}, Track(1), tmp_path))
    files = []
    for _ in range(2):
        preparing.read(Desk(tmp_path / "read", reading, {}, Track(), tmp_path))
        files.append({str(f.relative_to(tmp_path / "read")): f.read_bytes() for f in (tmp_path / "read").rglob("*.*")})
    assert files[0] == files[1]
    assert files[0].keys() == {"facts.json"} | {
        f"{split}/{name}" for split in ("train", "held_out") for name in ("pictures.safetensors", "captions.json")
    }
