"""Upscaling by bicubic interpolation, and folders of frames."""

from PIL import Image

from tests.videos import numbered
from workbench.inference.video import upscale_file
from workbench.models.bicubic import Bicubic


def double(source, target, **settings):
    return upscale_file(source, target, Bicubic(scale=2), **settings)


def save_frames(folder, names):
    folder.mkdir()
    for frame, name in zip(numbered(len(names)), names, strict=True):
        Image.fromarray(frame).save(folder / name)
    return folder
