import pytest
import torch

from vq_autoencoder import PatchGAN


def test_judges_patches_of_70_pixels():
    """One logit of the three-layer network sees 70 x 70 pixels, and no more (Isola et al. 2017)."""
    torch.manual_seed(0)
    adversary = PatchGAN(channels=2, layers=3).eval()
    images = torch.randn(1, 3, 128, 128, requires_grad=True)
    logits = adversary(images)
    assert logits.shape == (1, 1, 14, 14)
    logits[0, 0, 7, 7].backward()
    seen = images.grad[0].abs().sum(dim=0).nonzero()
    assert (seen.max(dim=0).values - seen.min(dim=0).values + 1).tolist() == [70, 70]


def test_channels_double_up_to_eightfold():
    widths = [
        module.out_channels for module in PatchGAN(channels=4, layers=5).main if isinstance(module, torch.nn.Conv2d)
    ]
    assert widths == [4, 8, 16, 32, 32, 32, 1]


def test_survives_saving(tmp_path):
    torch.manual_seed(0)
    adversary = PatchGAN(channels=4, layers=2).eval()
    adversary.save_pretrained(tmp_path)
    images = torch.randn(1, 3, 16, 16)
    assert torch.equal(PatchGAN.from_pretrained(tmp_path).eval()(images), adversary(images))


def test_refuses_no_layers():
    with pytest.raises(ValueError, match="layers must be at least 1"):
        PatchGAN(layers=0)
