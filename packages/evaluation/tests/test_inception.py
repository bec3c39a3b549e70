"""The Inception network against the recorded one, and what is said where its weights are missing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusion_evaluation import Space, inception_space, torch_fidelity_space
from diffusion_evaluation.inception import Inception
from diffusion_evaluation.inception_space import (
    CLEAN,
    LEGACY_PYTORCH,
    LEGACY_TENSORFLOW,
    WEIGHTS_NAMES,
    MissingWeights,
    Preparation,
    inception_weights,
)
from diffusion_evaluation.resize import resize, resize_bytes, resize_like_pytorch

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "reference" / "golden" / "inception_fid_arch"
RECORDED = {
    "early": "64",
    "middle": "192",
    "late": "768",
    "pooled": "2048",
    "logits": "logits_unbiased",
}


def formula_weights(name: str, number: int, shape: list[int], kind: str) -> torch.Tensor:
    """Weights that are a hash of where they stand, see the `formula` beside the recorded outputs."""
    x = np.arange(int(np.prod(shape)), dtype=np.uint32) + np.uint32((number * 0x9E3779B9) % 2**32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    u = x / 2**32
    r = (u - 0.5) * 12**0.5
    values = {
        "conv": lambda: r * (2 / np.prod(shape[1:])) ** 0.5,
        "linear": lambda: r / shape[-1] ** 0.5,
        "gamma": lambda: 1 + 0.2 * r,
        "running_var": lambda: 0.5 + u,
    }.get(kind, lambda: 0.1 * r)()
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


@pytest.fixture(scope="module")
def recorded() -> dict:
    if not GOLDEN.is_dir():
        pytest.skip(f"no recorded outputs at {GOLDEN}")
    config = json.loads((GOLDEN / "config.json").read_text())
    tensors = enumerate(config["formula_tensors"], config["k0"])
    return {
        "weights": {name: formula_weights(name, k, shape, kind) for k, (name, shape, kind) in tensors},
        "io": load_file(GOLDEN / "io.safetensors"),
    }


@pytest.mark.parity
def test_every_tap_is_torch_fidelitys(recorded: dict) -> None:
    network = Inception.from_weights(recorded["weights"])
    for image in ("img0", "img1"):
        with torch.no_grad():
            taps = network.taps(LEGACY_TENSORFLOW(recorded["io"][image][None]))
        for ours, theirs in RECORDED.items():
            expected = recorded["io"][f"{image}.features_{theirs}"]
            torch.testing.assert_close(getattr(taps, ours)[0], expected, rtol=1e-4, atol=1e-5)
        assert taps.spatial.shape == (1, 192, 17, 17) and taps.spatial.amin() == 0


@pytest.mark.parity
def test_weights_by_path_make_the_space(recorded: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    safe, pickled = tmp_path / "inception.safetensors", tmp_path / "inception.pth"
    save_file(recorded["weights"], safe)
    torch.save(recorded["weights"], pickled)
    monkeypatch.setenv("DIFFUSION_EVALUATION_INCEPTION", str(pickled))
    spaces = [inception_space(safe, preparation=LEGACY_TENSORFLOW), inception_space(preparation=LEGACY_TENSORFLOW)]
    assert spaces[0].identity == spaces[1].identity
    assert spaces[0].identity == Space("inception-legacy_tensorflow", "2015-12-05", spaces[0].sha256)
    expected = recorded["io"]["img0.features_2048"]
    torch.testing.assert_close(spaces[1](recorded["io"]["img0"][None])[0], expected, rtol=1e-4, atol=1e-5)


def test_preparations_differ_as_published() -> None:
    """At the network's own size nothing is resized: what is left is (x - 128) / 128, or x / 127.5 - 1."""
    images = torch.tensor([0, 128, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 299, 299).contiguous()
    for preparation in (CLEAN, LEGACY_TENSORFLOW):
        assert preparation(images)[:, 0, 0, 0].tolist() == [-1, 0, 127 / 128]
    assert LEGACY_PYTORCH(images)[[0, 2], 0, 0, 0].tolist() == [-1, 1]
    assert {p.name for p in (CLEAN, LEGACY_TENSORFLOW, LEGACY_PYTORCH)} == {
        "clean",
        "legacy_tensorflow",
        "legacy_pytorch",
    }


def test_missing_weights_say_which_file_where_and_what_works_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIFFUSION_EVALUATION_INCEPTION", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(MissingWeights) as raised:
        inception_space()
    told = str(raised.value)
    for part in (*WEIGHTS_NAMES, str(tmp_path / "checkpoints"), "no route", "give its path", "Without it", "pixel"):
        assert part in told
    with pytest.raises(MissingWeights, match=r"absent\.pth: no such file"):
        inception_weights(tmp_path / "absent.pth")


def test_other_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"472 keys missing, the first is .*; 1 keys unknown, the first is 'head'"):
        Inception.from_weights({"head": torch.zeros(1)})
    path = tmp_path / "weights.pth"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match=r"weights\.pth is not a state dict"):
        inception_weights(path)
    path.write_bytes(b"pickle?")
    with pytest.raises(ValueError, match=r"weights\.pth is not a file of weights"):
        inception_weights(path)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_torch_fidelity_itself_agrees(recorded: dict, tmp_path: Path) -> None:
    peer = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is not installed")
    path = tmp_path / "inception.pth"
    batches = {f"{name}.num_batches_tracked": torch.tensor(0) for name in norms(Inception())}
    torch.save(recorded["weights"] | batches, path)
    extractor = peer.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    theirs, ours = torch_fidelity_space(extractor), inception_space(path, preparation=LEGACY_TENSORFLOW)
    images = torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert theirs.name == "inception-v3-compat-2048"
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


def norms(network: torch.nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_clean_fid_prepares_the_same() -> None:
    peer = pytest.importorskip("cleanfid.resize", reason="clean-fid is not installed")
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = images[0].permute(1, 2, 0).numpy()
    for mode, ours in (("clean", resize(images, 299, 299)), ("legacy_pytorch", resize_like_pytorch(images, 299, 299))):
        np.testing.assert_allclose(ours[0].permute(1, 2, 0), peer.build_resizer(mode)(pixels), rtol=0, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("preparation", [CLEAN, LEGACY_TENSORFLOW, LEGACY_PYTORCH], ids=lambda p: p.name)
def test_a_gpu_gives_the_features_of_the_cpu(preparation: Preparation) -> None:
    torch.manual_seed(0)
    weights = Inception().state_dict()
    images = torch.randint(0, 256, (3, 3, 70, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(preparation(images.cuda()).cpu(), preparation(images), rtol=0, atol=1e-5)
    assert torch.equal(resize_bytes(images.cuda(), 50, 60).cpu(), resize_bytes(images, 50, 60))
    slow = inception_space(weights, preparation=preparation)
    with torch.device("cuda"):
        fast = inception_space(weights, preparation=preparation)
    assert slow.identity == fast.identity
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        features = fast(images.cuda())
    assert features.device.type == "cuda"
    torch.testing.assert_close(features.cpu(), slow(images), rtol=2e-3, atol=2e-3 * slow(images).abs().max().item())
