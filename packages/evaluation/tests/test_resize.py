"""Resizing against recorded outputs of Pillow and clean-fid, against Pillow itself where it is, and by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diffusion_evaluation.resize import (
    BICUBIC,
    BILINEAR,
    BOX,
    LANCZOS,
    Box,
    Kernel,
    centre_square,
    resize,
    resize_bytes,
    resize_like_pytorch,
    resize_like_tensorflow,
)

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "reference" / "golden" / "clean_resize"
RECORDED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cleanfid_pil_bicubic": lambda x: resize(x, 299, 299),
    "cleanfid_pil_lanczos": lambda x: resize(x, 299, 299, kernel=LANCZOS),
    "cleanfid_pil_bicubic_to_64": lambda x: resize(x, 64, 64),
    "pil_bicubic_uint8": lambda x: resize_bytes(x, 299, 299),
    "cleanfid_legacy_pytorch_bilinear": lambda x: resize_like_pytorch(x, 299, 299),
    "tf1_bilinear": lambda x: resize_like_tensorflow(x, 299, 299),
}
TOLERANCES = {"pil_bicubic_uint8": 0.0, "cleanfid_legacy_pytorch_bilinear": 1e-4, "tf1_bilinear": 1e-4}


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parity
@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("index", range(3))
def test_it_agrees_with_what_others_recorded(name: str, index: int) -> None:
    if not GOLDEN.is_dir():
        pytest.skip(f"no recorded outputs at {GOLDEN}")
    tensors, config = load_file(GOLDEN / "io.safetensors"), json.loads((GOLDEN / "config.json").read_text())
    image = tensors[f"img{index}"].permute(2, 0, 1)[None]
    ours = RECORDED[name](image)[0].permute(1, 2, 0)
    stats = config["images"][index]["stats"][name]
    tolerance = TOLERANCES.get(name, 2e-4)
    assert list(ours.shape) == stats["shape"]
    for corner, part in (("top_left", ours[:32, :32]), ("bottom_right", ours[-32:, -32:])):
        torch.testing.assert_close(part, tensors[f"img{index}.{name}.{corner}"], rtol=0, atol=tolerance)
    assert ours.double().mean().item() == pytest.approx(stats["mean"], abs=1e-5)
    assert ours.double().std(correction=0).item() == pytest.approx(stats["std"], abs=1e-5)


@pytest.mark.parametrize("kernel", [BICUBIC, LANCZOS, BILINEAR, BOX], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("size", [(7, 9), (40, 21), (64, 3)])
def test_it_is_pillows(kernel: Kernel, size: tuple[int, int]) -> None:
    """Wide images: of tall ones Pillow 13 shrinks the height first, earlier versions the width, as here."""
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is no requirement of this package")
    batch, resampling = images(2, 3, 23, 31), pillow.Resampling[kernel.name.upper()]
    for box in (None, Box(2.25, 1.5, 30.0, 17.75)):
        bounds = None if box is None else (box.left, box.top, box.right, box.bottom)

        def theirs(pixels: np.ndarray, bounds: tuple[float, ...] | None = bounds) -> np.ndarray:
            return np.asarray(pillow.fromarray(pixels).resize(size[::-1], resampling, box=bounds))

        ours = resize_bytes(batch, *size, kernel=kernel, box=box)
        assert np.array_equal(ours.permute(0, 2, 3, 1), [theirs(x.permute(1, 2, 0).numpy()) for x in batch])
        floats = theirs(batch[0, 1].numpy().astype(np.float32)).clip(0, 255)
        np.testing.assert_allclose(resize(batch, *size, kernel=kernel, box=box)[0, 1], floats, rtol=0, atol=4e-5)


def test_its_own_size_changes_nothing() -> None:
    batch = images(2, 3, 8, 5)
    assert torch.equal(resize_bytes(batch, 8, 5), batch)
    for resized in (resize(batch, 8, 5), resize_like_pytorch(batch, 8, 5), resize_like_tensorflow(batch, 8, 5)):
        assert torch.equal(resized, batch.float())


def test_halving_by_boxes_averages_blocks() -> None:
    batch = images(2, 3, 8, 12)
    expected = torch.nn.functional.avg_pool2d(batch.double(), 2)
    torch.testing.assert_close(resize(batch, 4, 6, kernel=BOX).double(), expected, rtol=0, atol=1e-4)


def test_tensorflow_reads_without_a_half_pixel_shift() -> None:
    batch = torch.tensor([0, 100, 200, 40], dtype=torch.uint8).expand(1, 3, 4, 4)
    assert resize_like_tensorflow(batch, 4, 8)[0, 0, 0].tolist() == [0, 50, 100, 150, 200, 120, 40, 40]


def test_the_central_square_keeps_the_centre() -> None:
    thirds = torch.tensor([10, 120, 250], dtype=torch.uint8).repeat_interleave(32).expand(1, 3, 32, 96)
    assert (centre_square(thirds, 16)[..., 2:-2] == 120).all()
    assert centre_square(thirds.transpose(2, 3).contiguous(), 16).shape == (1, 3, 16, 16)


def test_what_cannot_be_resized_is_refused() -> None:
    batch = images(1, 3, 8, 8)
    with pytest.raises(ValueError, match="at least one pixel, got 0 x 4"):
        resize(batch, 0, 4)
    with pytest.raises(ValueError, match=r"Box\(left=0, top=0, right=9, bottom=8\) does not lie within images of"):
        resize_bytes(batch, 4, 4, box=Box(0, 0, 9, 8))
