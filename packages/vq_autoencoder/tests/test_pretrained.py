import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from vq_autoencoder import PatchGAN, VQAutoencoder, check_sha256, read_weights


@pytest.fixture
def saved(small_vq, tmp_path):
    autoencoder = small_vq()
    autoencoder.save_pretrained(tmp_path)
    return autoencoder, tmp_path


def test_hash_is_checked_before_weights_are_read(saved):
    autoencoder, folder = saved
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    again = VQAutoencoder.from_pretrained(folder, sha256=digest.upper())
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in autoencoder.state_dict().items())
    with pytest.raises(ValueError, match=f"has sha256 {digest}, expected 0000"):
        VQAutoencoder.from_pretrained(folder, sha256="0000")


def test_other_architectures_are_refused_with_their_keys(saved):
    _, folder = saved
    weights = load_file(folder / "model.safetensors")
    del weights["post_quant_conv.bias"]
    save_file(weights | {"novelty": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing post_quant_conv.bias \(4,\); unknown novelty \(3,\)"):
        VQAutoencoder.from_pretrained(folder)


def test_empty_and_damaged_folders_are_refused(saved, tmp_path):
    _, folder = saved
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no config.json; give a folder that save_pretrained wrote"):
        VQAutoencoder.from_pretrained(tmp_path / "empty")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="model.safetensors is damaged or cut short"):
        VQAutoencoder.from_pretrained(folder)
    file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="holds no model.safetensors"):
        VQAutoencoder.from_pretrained(folder)
    with pytest.raises(ValueError, match="is a pickle, which is never read"):
        VQAutoencoder._load_as_pickle(None, "pytorch_model.bin", "cpu", True)


def test_tensors_of_a_checkpoint_are_read_and_objects_refused(tmp_path):
    weights = {"a": torch.arange(3.0)}
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "tensors.ckpt")
    assert torch.equal(read_weights(tmp_path / "tensors.ckpt")["a"], weights["a"])
    torch.save({"state_dict": weights, "model": PatchGAN(channels=1, layers=1)}, tmp_path / "objects.ckpt")
    with pytest.raises(ValueError, match="holds objects besides tensors, and nothing is unpickled here"):
        read_weights(tmp_path / "objects.ckpt")
    torch.save({"epoch": 3}, tmp_path / "nothing.ckpt")
    with pytest.raises(ValueError, match="holds no state dict"):
        read_weights(tmp_path / "nothing.ckpt")
    (tmp_path / "torn.ckpt").write_bytes((tmp_path / "tensors.ckpt").read_bytes()[:200])
    with pytest.raises(ValueError, match="damaged or cut short"):
        read_weights(tmp_path / "torn.ckpt")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_weights(tmp_path / "missing.safetensors")


def test_hash_of_a_file(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    check_sha256(tmp_path / "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
