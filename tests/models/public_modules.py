"""Modules as in public code: input of a window, an image or a clip; activations in place."""

import torch
import torch.nn.functional as F
from torch import nn


class WindowModule(nn.Module):
    """A window in, the middle frame out; activations in place before and behind F^SR, as public code has them."""

    def __init__(self, frames=3, scale=2, channels=8):
        super().__init__()
        self.scale = scale
        self.entry = nn.Conv2d(3 * frames, channels, 3, padding=1)
        self.widen = nn.Conv2d(channels, channels * scale**2, 3, padding=1)
        self.tail = nn.Sequential(nn.LeakyReLU(0.1, inplace=True), nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, window):
        features = F.relu_(self.entry(window.flatten(1, 2)))
        return self.tail(F.pixel_shuffle(self.widen(features), self.scale))


class ImageModule(WindowModule):
    """The same for single images."""

    def __init__(self, **settings):
        super().__init__(frames=1, **settings)

    def forward(self, image):
        return super().forward(image[:, None])


class ClipModule(WindowModule):
    """The same for clips: a running mean goes along, and the tail runs as ``how`` says."""

    def __init__(self, how="flat", **settings):
        super().__init__(frames=1, **settings)
        self.how = how

    def forward(self, clip):
        batch, frames = clip.shape[:2]
        mixed = (clip + clip.mean(dim=1, keepdim=True)) / 2
        shuffled = F.pixel_shuffle(self.widen(F.relu(self.entry(mixed.flatten(0, 1)))), self.scale)
        shuffled = shuffled.unflatten(0, (batch, frames))
        if self.how == "flat":
            return self.tail(shuffled.flatten(0, 1)).unflatten(0, (batch, frames))
        return torch.stack([self.tail(shuffled[:, t].clone()) for t in range(frames)], dim=1)
