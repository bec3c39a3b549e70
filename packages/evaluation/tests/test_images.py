"""Images of every stated kind against the bytes they were made of, and of every unstated kind refused."""

import numpy as np
import pytest
import torch

from diffusion_evaluation import Layout, Range, image_batches, to_bytes, to_signed_range


def images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_bytes_come_through_every_kind_of_array() -> None:
    batch = images(5, 3, 8, 6)
    last = batch.permute(0, 2, 3, 1)
    assert torch.equal(to_bytes(batch), batch)
    assert torch.equal(to_bytes(last), batch)
    assert torch.equal(to_bytes(last.numpy()), batch)
    assert torch.equal(to_bytes(last.numpy()[0]), batch[:1])
    assert torch.equal(to_bytes(to_signed_range(batch), values=Range.SIGNED), batch)
    assert torch.equal(to_bytes(batch / 255, values=Range.UNIT), batch)
    assert torch.equal(to_bytes(batch.double(), values=Range.BYTES), batch)
    assert torch.equal(to_bytes((last.numpy() / 255).astype(">f4"), values=Range.UNIT), batch)


def test_a_layout_is_never_guessed() -> None:
    both = images(2, 3, 5, 3)
    with pytest.raises(ValueError, match=r"images: \(2, 3, 5, 3\) may be either layout: give layout="):
        to_bytes(both)
    assert torch.equal(to_bytes(both, layout=Layout.CHANNELS_FIRST), both)
    assert torch.equal(to_bytes(both, layout=Layout.CHANNELS_LAST), both.permute(0, 3, 1, 2))


def test_a_range_is_never_guessed() -> None:
    floats = images(2, 3, 4, 4) / 255
    with pytest.raises(TypeError, match=r"floats may mean anything, these lie in \[.*\]: say values=Range.SIGNED"):
        to_bytes(floats)
    with pytest.raises(ValueError, match=r"values lie in \[0.*\], outside \[0, 1\] .*: choose their range"):
        to_bytes(floats * 2, values=Range.UNIT)
    with pytest.raises(ValueError, match="1 images are not finite, the first is image 1"):
        to_bytes(torch.stack([floats[0], floats[1] / 0]), values=Range.UNIT)
    with pytest.raises(TypeError, match="uint8 images hold bytes"):
        to_bytes(images(1, 3, 4, 4), values=Range.UNIT)


def test_what_is_no_colour_image_is_named() -> None:
    with pytest.raises(ValueError, match=r"3 channels, got \(1, 1, 4, 5\): repeat a grey channel three times"):
        to_bytes(images(1, 1, 4, 5))
    with pytest.raises(ValueError, match=r"3 channels, got \(2, 8, 8, 4\): lay transparency over a background"):
        to_bytes(images(2, 8, 8, 4))
    with pytest.raises(ValueError, match=r"images are \(b, 3, H, W\) or \(b, H, W, 3\), got \(8, 8\)"):
        to_bytes(images(8, 8))
    with pytest.raises(TypeError, match="got uint16: scale them to bytes first"):
        to_bytes(np.zeros((1, 3, 4, 4), np.uint16))
    with pytest.raises(TypeError, match=r"got torch.int32: scale 16-bit images to bytes first"):
        to_bytes(torch.zeros(1, 3, 4, 4, dtype=torch.int32))


def test_batches_of_an_array_or_of_a_generator_are_the_same() -> None:
    batch = images(7, 3, 4, 6)
    for source in (batch, batch.permute(0, 2, 3, 1).numpy(), iter(batch), iter(batch.split([2, 0, 4, 1]))):
        found = list(image_batches(source, 3))
        assert [len(part) for part in found] == [3, 3, 1]
        assert torch.equal(torch.cat(found), batch)
    assert list(image_batches(iter(()), 3)) == []
    (signed,) = image_batches([to_signed_range(batch)], 9, values=Range.SIGNED)
    assert torch.equal(signed, batch)


def test_an_image_of_another_size_is_numbered() -> None:
    with pytest.raises(
        ValueError, match=r"images\[1\] is \(4, 5\), those before are \(4, 6\): bring all images to one"
    ):
        list(image_batches([images(3, 4, 6), images(3, 4, 5)], 8))
    with pytest.raises(TypeError, match=r"images\[0\]: images are torch tensors or NumPy arrays, got str"):
        list(image_batches(iter(["cat.png"]), 8))
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        list(image_batches(images(1, 3, 4, 6), 0))
