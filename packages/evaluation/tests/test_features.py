"""Feature spaces: their identity, their checks, and the values that they hand on."""

import copy
import hashlib

import pytest
import torch
from torch import nn

from diffusion_evaluation import FeatureSpace, Space, module_space, pixel_space, to_signed_range, weights_sha256
from diffusion_evaluation.features import require_uint8_images


def images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.BatchNorm1d(5))


def test_any_module_is_a_space_under_its_weights() -> None:
    module = network().train()
    space = module_space("toy", module, version="2")
    batch = images(6, 3, 4, 4)
    features = space(batch)
    assert space.identity == Space("toy", "2", weights_sha256(module))
    assert module.training
    torch.testing.assert_close(features, module.eval()(batch / 127.5 - 1).detach())
    torch.testing.assert_close(features[:1], space(batch[:1]))


def test_the_digest_is_that_of_names_types_shapes_and_bytes() -> None:
    module = nn.Linear(2, 1, bias=False)
    nn.init.constant_(module.weight, 1.5)
    expected = hashlib.sha256(b"weight torch.float32 (1, 2)\n" + bytes.fromhex("0000c03f") * 2).hexdigest()
    assert weights_sha256(module) == expected


def test_the_digest_follows_every_weight_and_buffer() -> None:
    module = network()
    digests = {weights_sha256(module)}
    assert weights_sha256(copy.deepcopy(module)) in digests
    for name in module.state_dict():
        changed = copy.deepcopy(module)
        changed.state_dict()[name].add_(1)
        digests.add(weights_sha256(changed))
    assert len(digests) == 1 + len(module.state_dict())


def test_pixels_are_block_means() -> None:
    batch = images(2, 3, 8, 4)
    features = pixel_space(2)(batch)
    block = to_signed_range(batch)[1, 2, 4:, :2]
    assert features.shape == (2, 12)
    assert features[1, 10].item() == pytest.approx(block.mean().item(), abs=1e-6)
    assert pixel_space(2).identity == Space("pixels-2")
    with pytest.raises(ValueError, match="8x4 are not multiples"):
        pixel_space(3)(batch)


def test_the_range_of_uint8_becomes_the_signed_one() -> None:
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert torch.equal(to_signed_range(ends)[0, 0, 0], torch.tensor([-1.0, 1.0]))


def test_what_is_no_feature_is_refused() -> None:
    for extract in (lambda x: x.float(), lambda x: x.flatten(1), lambda x: x.float().flatten(1)[:1]):
        with pytest.raises(ValueError, match="extract must return float features"):
            FeatureSpace("broken", extract)(images(2, 3, 4, 4))


def test_images_that_are_not_uint8_colour_are_refused() -> None:
    with pytest.raises(TypeError, match=r"real: images are uint8 \(b, 3, H, W\), got torch.float32"):
        require_uint8_images(torch.zeros(1, 3, 4, 4), "real")
    with pytest.raises(ValueError, match=r"fake: images are \(b, 3, H, W\), got \(1, 4, 4, 3\)"):
        require_uint8_images(images(1, 4, 4, 3), "fake")
