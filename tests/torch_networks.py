"""The backbones in PyTorch, with torchvision's names of everything, for a comparison of numbers."""

import torch
from torch import nn


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list:
    """A convolution without bias and its BatchNorm."""
    padding = (kernel - 1) // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Block(nn.Module):
    """A basic block (two 3x3) or a bottleneck (1x1, 3x3, 1x1)."""

    def __init__(self, inputs: int, width: int, stride: int, *, bottleneck: bool):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            layers = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        else:
            layers = [(inputs, width, 3, stride), (width, width, 3, 1)]
        self.depth = len(layers)
        for number, layer in enumerate(layers, 1):
            conv, norm = conv_norm(*layer)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", norm)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(*conv_norm(inputs, outputs, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w)."""
        y = x
        for number in range(1, self.depth + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            if number < self.depth:
                y = torch.relu(y)
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Without average pooling; with a classifier, which nothing here uses, as in the real files."""

    def __init__(self, sizes: tuple[int, ...], *, bottleneck: bool):
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, 64, 7, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for stage, (count, width) in enumerate(zip(sizes, (64, 128, 256, 512), strict=True)):
            blocks = []
            for place in range(count):
                stride = 2 if stage > 0 and place == 0 else 1
                blocks.append(Block(inputs, width, stride, bottleneck=bottleneck))
                inputs = 4 * width if bottleneck else width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to the last map."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x


class InvertedResidual(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        wide, layers = inputs * expansion, []
        if expansion != 1:
            layers.append(nn.Sequential(*conv_norm(inputs, wide, 1), nn.ReLU6()))
        layers.append(nn.Sequential(*conv_norm(wide, wide, 3, stride, wide), nn.ReLU6()))
        self.conv = nn.Sequential(*layers, *conv_norm(wide, outputs, 1))
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w)."""
        y = self.conv(x)
        return x + y if self.is_residual else y


class MobileNetV2(nn.Module):
    """Without average pooling; with a classifier, which nothing here uses, as in the real file."""

    RUNS = (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    )

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*conv_norm(3, 32, 3, 2), nn.ReLU6())]
        inputs = 32
        for expansion, outputs, count, stride in self.RUNS:
            for place in range(count):
                layers.append(
                    InvertedResidual(inputs, outputs, stride if place == 0 else 1, expansion)
                )
                inputs = outputs
        layers.append(nn.Sequential(*conv_norm(inputs, 1280, 1), nn.ReLU6()))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, 1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to the last map."""
        return self.features(x)


def create(backbone: str) -> nn.Module:
    """The network of that name, with random weights."""
    if backbone == "mobilenet_v2":
        return MobileNetV2()
    bottleneck = backbone == "resnet50"
    return ResNet((3, 4, 6, 3) if bottleneck else (2, 2, 2, 2), bottleneck=bottleneck)
