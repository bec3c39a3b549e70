"""What is given on the command line, and what it stands for."""

from pathlib import Path

import pytest

from reproductions.commands.denoiser_options import DiscreteOptions, with_autoencoder


def trained(run: Path, stage: str) -> Path:
    folder = run / "stages" / stage / "autoencoder"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_the_run_that_trained_an_autoencoder_stands_for_it(tmp_path: Path) -> None:
    folder = trained(tmp_path, "vq-f4-32-train-0123")
    trained(tmp_path, "vq-f4-32-train-4567.partial")
    assert with_autoencoder(DiscreteOptions(autoencoder=tmp_path)) == DiscreteOptions(autoencoder=folder)
    for given in (folder, None):
        assert with_autoencoder(DiscreteOptions(autoencoder=given)).autoencoder == given


def test_a_run_of_none_or_of_several_is_named(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    with pytest.raises(ValueError, match=f"{tmp_path} holds no finished autoencoders; give one"):
        with_autoencoder(DiscreteOptions(autoencoder=tmp_path))
    both = [trained(tmp_path, "kl-train-1"), trained(tmp_path, "vq-train-2")]
    with pytest.raises(ValueError, match=f"holds 2 finished autoencoders: {both[0]}, {both[1]}; give one"):
        with_autoencoder(DiscreteOptions(autoencoder=tmp_path))
