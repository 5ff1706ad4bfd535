"""The paper's networks in plain PyTorch: what lps_tf's speed is compared with.

Written as PyTorch users write modules: channels first, eager, library functions.
Parameters bear the names of the paper's released code, so that the same weights load
here and into lps_tf, and test_benchmarks.py can hold both to the same outputs.
"""

import torch
import torch.nn.functional as F
from torch import nn

from tests.benchmarks.torch_cvae import PerturbationSet, scaled_tanh
from tests.benchmarks.torch_unet import mi_unet, unet

__all__ = [
    "cifar10_residual",
    "mi_unet",
    "mnist_conv",
    "mnist_stn",
    "small_cnn",
    "unet",
    "wide_resnet",
]

# Photographs of 32x32.


class ResidualBlock(nn.Module):
    def __init__(self, wide, narrow):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv1 = nn.Conv2d(wide, narrow, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, wide, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(F.relu(self.bn1(x)))
        return x + self.conv2(F.relu(self.bn2(y)))


def residual_layers(inputs, outputs, blocks, wide, narrow):
    return [
        nn.Conv2d(inputs, wide, 3, padding=1, bias=False),
        *[ResidualBlock(wide, narrow) for _ in range(blocks)],
        nn.BatchNorm2d(wide),
        nn.ReLU(),
        nn.Conv2d(wide, outputs, 3, padding=1, bias=False),
    ]


class ResidualEncoder(nn.Module):
    def __init__(self, inputs, latent_dim, blocks, wide, narrow):
        super().__init__()
        self.encoder = nn.Sequential(
            *residual_layers(inputs, narrow, blocks, wide, narrow),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
        )
        self.fc1 = nn.Linear(32 * 32 * narrow, latent_dim)
        self.fc2 = nn.Linear(32 * 32 * narrow, latent_dim)

    def forward(self, x):
        h = self.encoder(x).flatten(1)
        return self.fc1(h), scaled_tanh(self.fc2(h))


class ResidualGenerator(nn.Module):
    def __init__(self, latent_dim, blocks, wide, narrow):
        super().__init__()
        self.fc = nn.Linear(latent_dim, 32 * 32)
        self.decoder = nn.Sequential(*residual_layers(4, 3, blocks, wide, narrow))

    def forward(self, x, z):
        latent_map = self.fc(z).view(-1, 1, 32, 32)
        return torch.sigmoid(self.decoder(torch.cat([x, latent_map], 1)))


def cifar10_residual(latent_dim=512, blocks=4, wide=64, narrow=16):
    sizes = (latent_dim, blocks, wide, narrow)
    return PerturbationSet(
        ResidualEncoder(3, *sizes),
        ResidualEncoder(6, *sizes),
        ResidualGenerator(*sizes),
        "gaussian",
    )


# Digits of 42x42, moved by spatial transformers.


def reflecting_conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 5, padding=2, padding_mode="reflect")


class ConvBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = reflecting_conv(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = reflecting_conv(channels, channels)

    def forward(self, x):
        x = self.conv1(F.relu(self.bn1(x)))
        return self.conv2(F.relu(self.bn2(x)))


class StnEncoder(nn.Module):
    def __init__(self, inputs, latent_dim):
        super().__init__()
        self.block = ConvBlock(inputs)
        self.fc31 = nn.Linear(42 * 42 * inputs, latent_dim)
        self.fc32 = nn.Linear(42 * 42 * inputs, latent_dim)

    def forward(self, x):
        h = self.block(x).flatten(1)
        return self.fc31(h), self.fc32(h)


class SpatialTransformer(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.localization = nn.Sequential(
            nn.Flatten(),
            nn.Linear(42 * 42, first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
        )
        self.fc = nn.Linear(second, 6)
        nn.init.zeros_(self.fc.weight)  # starts as "do not move"
        self.fc.bias.data = torch.tensor([1.0, 0, 0, 0, 1, 0])

    def forward(self, x, latent_map):
        theta = self.fc(self.localization(latent_map)).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.shape, align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


class StnGenerator(nn.Module):
    def __init__(self, latent_dim, transformers, localisation):
        super().__init__()
        self.fc = nn.Linear(latent_dim, 42 * 42)
        self.stns = nn.ModuleList(
            SpatialTransformer(*localisation) for _ in range(transformers)
        )
        self.block = ConvBlock(transformers)
        self.conv = reflecting_conv(transformers, 1)

    def forward(self, x, z):
        latent_map = self.fc(z)
        moved = torch.cat([stn(x, latent_map) for stn in self.stns], 1)
        return torch.sigmoid(self.conv(self.block(moved)))


def mnist_stn(latent_dim=128, transformers=5, localisation=(512, 128)):
    return PerturbationSet(
        StnEncoder(1, latent_dim),
        StnEncoder(2, latent_dim),
        StnGenerator(latent_dim, transformers, localisation),
        "bernoulli",
    )


# Digits of 28x28, under noise. The latent is a map.


class ConvEncoder(nn.Module):
    def __init__(self, inputs, filters, latent_channels):
        super().__init__()
        first, second = filters
        self.conv1 = nn.Conv2d(inputs, first, 3, padding=1)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.conv31 = nn.Conv2d(second, latent_channels, 3, padding=1)
        self.conv32 = nn.Conv2d(second, latent_channels, 3, padding=1)

    def forward(self, x):
        for layer in (self.conv1, self.conv2):
            x = F.max_pool2d(F.relu(layer(x)), 2)
        return self.conv31(x), self.conv32(x)


class ConvGenerator(nn.Module):
    def __init__(self, filters, latent_channels):
        super().__init__()
        first, second = filters
        # Of every fourth and every second pixel, without strides of their own, whose
        # gradient corrupts memory in oneDNN.
        self.downsample3 = nn.Conv2d(1, 1, 1)
        self.downsample4 = nn.Conv2d(1, 1, 1)
        self.conv3 = nn.Conv2d(1 + latent_channels, second, 3, padding=1)
        self.conv4 = nn.Conv2d(1 + second, first, 3, padding=1)
        self.conv5 = nn.Conv2d(1 + first, 1, 3, padding=1)

    def forward(self, x, z):
        quarter = self.downsample3(x[:, :, ::4, ::4])
        half = self.downsample4(x[:, :, ::2, ::2])
        y = self.conv3(torch.cat([quarter, z], 1))
        for image, layer in ((half, self.conv4), (x, self.conv5)):
            y = F.interpolate(F.relu(y), scale_factor=2)
            y = layer(torch.cat([image, y], 1))
        return torch.sigmoid(y)


def mnist_conv(filters=(32, 64), latent_channels=128):
    return PerturbationSet(
        ConvEncoder(1, filters, latent_channels),
        ConvEncoder(2, filters, latent_channels),
        ConvGenerator(filters, latent_channels),
        "bernoulli",
    )


# The classifiers of digits and of photographs.


def small_cnn(side, filters, units=128, classes=10):
    """Two 4x4 convolutions of stride 2 on images of one channel, as lps_tf's."""
    first, second = filters
    half = -(-side // 2)
    maps = second * (-(-half // 2)) ** 2
    return nn.Sequential(
        nn.Conv2d(1, first, 4, 2, padding=1),
        nn.ReLU(),
        nn.ZeroPad2d((0, 1, 0, 1)) if half % 2 else nn.Identity(),
        nn.Conv2d(first, second, 4, 2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(maps, units),
        nn.ReLU(),
        nn.Linear(units, classes),
    )


class Normalize(nn.Module):
    def __init__(self):
        super().__init__()
        mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
        self.register_buffer("mu", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, x):
        return (x - self.mu) / self.std


class WideBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.convShortcut = None
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        active = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (self.convShortcut(active) if self.convShortcut else x)


class WideGroup(nn.Module):
    def __init__(self, blocks, inputs, outputs, stride):
        super().__init__()
        self.layer = nn.Sequential(
            WideBlock(inputs, outputs, stride),
            *[WideBlock(outputs, outputs, 1) for _ in range(blocks - 1)],
        )

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, depth, width, classes):
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = WideGroup(blocks, 16, 16 * width, 1)
        self.block2 = WideGroup(blocks, 16 * width, 32 * width, 2)
        self.block3 = WideGroup(blocks, 32 * width, 64 * width, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = F.adaptive_avg_pool2d(F.relu(self.bn1(x)), 1)
        return self.fc(x.flatten(1))


def wide_resnet(depth=28, width=10, classes=10):
    return nn.Sequential(Normalize(), WideResNet(depth, width, classes))
