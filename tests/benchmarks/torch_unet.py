"""The U-Net in plain PyTorch, as a segmenter and as the perturbation set for lighting.

See torch_networks.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

from tests.benchmarks.torch_cvae import PerturbationSet, scaled_tanh

CHANNELS = (64, 128, 256, 512, 1024)
LATENTS = (128, 64, 32, 16, 16)
POOL = ((125, 187), (62, 93), (31, 46), (15, 23), (7, 11))


class DoubleConv(nn.Module):
    def __init__(self, inputs, outputs, middle=None):
        super().__init__()
        middle = middle or outputs
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, middle, 3, padding=1),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(inputs, outputs))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = DoubleConv(inputs, outputs, inputs // 2)

    def forward(self, x, skip):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        rows, columns = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        return self.conv(torch.cat([skip, F.pad(x, (0, columns, 0, rows))], 1))


class OutConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        return self.conv(x)


class UnetEncoder(nn.Module):
    """The way down; `depths` are the channels of its five maps."""

    def __init__(self, inputs, channels):
        super().__init__()
        self.depths = depths = (*channels[:4], channels[4] // 2)
        self.inc = DoubleConv(inputs, depths[0])
        self.down1 = Down(depths[0], depths[1])
        self.down2 = Down(depths[1], depths[2])
        self.down3 = Down(depths[2], depths[3])
        self.down4 = Down(depths[3], depths[4])

    def maps(self, x):
        found = [self.inc(x)]
        for down in (self.down1, self.down2, self.down3, self.down4):
            found.append(down(found[-1]))
        return found


class Unet(UnetEncoder):
    """Down and up again; `extra` channels join each map on the way up."""

    def __init__(self, outputs, channels=CHANNELS, extra=0):
        super().__init__(3, channels)
        widths = (channels[3] // 2, channels[2] // 2, channels[1] // 2, channels[0])
        skips = [depth + extra for depth in self.depths]
        self.up1 = Up(skips[3] + skips[4], widths[0])
        self.up2 = Up(skips[2] + widths[0], widths[1])
        self.up3 = Up(skips[1] + widths[1], widths[2])
        self.up4 = Up(skips[0] + widths[2], widths[3])
        self.outc = OutConv(widths[3], outputs)

    def decode(self, maps):
        x = self.up1(maps[4], maps[3])
        x = self.up2(x, maps[2])
        x = self.up3(x, maps[1])
        return self.outc(self.up4(x, maps[0]))

    def forward(self, x):
        return self.decode(self.maps(x))


class MultiscaleEncoder(UnetEncoder):
    def __init__(self, inputs, channels, latents, pool):
        super().__init__(inputs, channels)
        self.pool = pool
        self.conv = nn.ModuleList(nn.Conv2d(depth, 16, 1) for depth in self.depths)
        sizes = [(16 * h * w, n) for (h, w), n in zip(pool, latents, strict=True)]
        self.fc1 = nn.ModuleList(nn.Linear(*size) for size in sizes)
        self.fc2 = nn.ModuleList(nn.Linear(*size) for size in sizes)

    def forward(self, x):
        means, logvars = [], []
        for i, level in enumerate(self.maps(x)):
            level = F.adaptive_avg_pool2d(F.relu(self.conv[i](level)), self.pool[i])
            h = level.flatten(1)
            means.append(self.fc1[i](h))
            logvars.append(self.fc2[i](h))
        return torch.cat(means, 1), scaled_tanh(torch.cat(logvars, 1))


class MultiscaleGenerator(Unet):
    def __init__(self, channels, latents, pool):
        super().__init__(3, channels, extra=1)
        self.latents, self.pool = latents, pool
        self.fc = nn.ModuleList(
            nn.Linear(n, h * w) for (h, w), n in zip(pool, latents, strict=True)
        )

    def forward(self, x, z):
        maps, parts = self.maps(x), z.split(self.latents, 1)
        for i, part in enumerate(parts):
            latent_map = self.fc[i](part).view(-1, 1, *self.pool[i])
            latent_map = F.interpolate(
                latent_map, maps[i].shape[2:], mode="bilinear", align_corners=False
            )
            maps[i] = torch.cat([maps[i], latent_map], 1)
        return torch.sigmoid(self.decode(maps))


def mi_unet(channels=CHANNELS, latents=LATENTS, pool=POOL):
    return PerturbationSet(
        MultiscaleEncoder(3, channels, latents, pool),
        MultiscaleEncoder(6, channels, latents, pool),
        MultiscaleGenerator(channels, latents, pool),
        "gaussian",
    )


def unet(num_classes=36, channels=CHANNELS):
    """The segmenter: logits of every pixel."""
    return Unet(num_classes, channels)
