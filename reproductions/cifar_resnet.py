"""The residual networks of CIFAR-10 as a feature space for small photographs."""

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Two convolutions with batch normalisation, and a shortcut that strides and pads with zeros."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.stride, self.padding = stride, (channels_out - channels_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(h + shortcut)


class CifarResNet(nn.Module):
    """ResNet of `6 blocks + 2` layers for 32 pixels (56 layers: nine blocks a stage); 64 features before the classes.

    Images of any other side come to 32 pixels first: of a multiple by averages, of another by bicubic interpolation.
    """

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (channels_in, channels) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            first = Block(channels_in, channels, 1 if stage == 1 else 2)
            rest = [Block(channels, channels, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Features (b, 64) of square images (b, 3, H, H) in [-1, 1]."""
        mean, deviation = (images.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
        images = _of_own_side(images)
        h = F.relu(self.bn1(self.conv1(((images + 1) / 2 - mean) / deviation)))
        for stage in ("layer1", "layer2", "layer3"):
            h = self.get_submodule(stage)(h)
        return h.mean(dim=(2, 3))


def _of_own_side(images: Tensor) -> Tensor:
    side = images.shape[2]
    if side == SIDE:
        return images
    if side % SIDE == 0:
        return F.avg_pool2d(images, side // SIDE)
    return F.interpolate(images, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)


def cifar_resnet(path: Path) -> CifarResNet:
    """The network whose weights are at `path`; the number of its blocks is read off them.

    Raises:
        ValueError: for a file of another network.
    """
    weights = load_file(path)
    blocks = len({key.split(".")[1] for key in weights if key.startswith("layer1.")})
    network = CifarResNet(max(1, blocks))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"--features: {path} holds no CIFAR residual network: {error}") from error
    return network.eval()


def layers(network: CifarResNet) -> int:
    """Number of its layers, by which it is called."""
    return sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network.modules())
