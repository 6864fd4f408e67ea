"""Write the ground truth of the shipped scenes of a moving camera: ``python tools/scene_clips.py --stills FOLDER``.

Two held-out photographs of ``docs/data.md`` and a sign with text that is drawn here, each under a camera that moves by
a part of a low-resolution pixel a frame. The frames are written into the scenes of the package, where they are sample
clips; ``python tools/ship.py --scenes`` then renders the scenes. Without ``--stills`` only the sign is drawn.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

from workbench.data.preparation.manifest import sha256_of
from workbench.data.sampling.motion import CameraPath, Layer
from workbench.data.video.frame_folder import read_image
from workbench.runs import shipped

SCENES = shipped("scenes")
SCALE = 4
WIDTH, HEIGHT, FRAMES = 256, 192, 8
DOWNSAMPLING = 2
"""Pixels of the image per high-resolution pixel when a frame is rendered."""


@dataclass(frozen=True, kw_only=True)
class CameraClip:
    """Still image and the motion of a camera over it.

    Attributes:
        photograph: file name; empty for the sign.
        sha256: checksum of the photograph.
        reduction: pixels of the photograph per high-resolution pixel.
        center: point of the image below the camera in the middle frame, x first, as parts of width and height.
        speed: low-resolution pixels a frame.
        heading: direction of the motion in degrees; 0 is to the right, 90 down.
        turn: angle between camera and image in degrees.
    """

    photograph: str = ""
    sha256: str = ""
    reduction: float = DOWNSAMPLING
    center: tuple[float, float]
    speed: float
    heading: float
    turn: float = 0.0


CLIPS = {
    "casa_mila": CameraClip(
        photograph="budgie_casa-mila.jpg",
        sha256="2fd00623841a22aec673eed8afd5d43c87d56171b26ae95f3436df8c0f22bf3f",
        reduction=3.4,
        center=(0.345, 0.485),
        speed=0.6,
        heading=30.0,
    ),
    "colosseum": CameraClip(
        photograph="budgie_roman-colosseum.jpg",
        sha256="4995228348caa1e905c455d4ad5023869e76ac35564c766372060bcf96de1ea1",
        reduction=5.6,
        center=(0.53, 0.478),
        speed=0.6,
        heading=30.0,
    ),
    "sign": CameraClip(center=(0.5, 0.47), speed=0.6, heading=30.0, turn=-3.0),
}
"""Name of the scene -> its camera. Regions and speeds were chosen by the gain of the teacher over the plain student."""

INK, GROUND = (240, 232, 205), (24, 66, 58)
LINES = (
    ("DejaVuSans-Bold", 33, "SUB-PIXEL"),
    ("DejaVuSerif", 20, "Motion adds samples."),
    ("DejaVuSans", 18, "The camera moves by a"),
    ("DejaVuSans", 18, "part of a pixel a frame."),
    ("DejaVuSans-Bold", 12, "0 1 2 3 4 5 6 7   12:45   3.14159"),
    ("DejaVuSerif", 11, "The smallest letters are lost first."),
)
"""Font, height in high-resolution pixels and text of each line of the sign."""


def main(stills: Path | None = None, out: Path = SCENES) -> None:
    """Write the frames of the clips.

    Args:
        stills: folder with the photographs; without it only the sign is written.
        out: folder of the scenes.
    """
    for name, clip in CLIPS.items():
        if not clip.photograph:
            image = draw_sign()
        elif stills is not None:
            image = read_photograph(stills / clip.photograph, clip)
        else:
            continue
        write(out / name / "frames" / "high", render_clip(image, clip))


def read_photograph(path: Path, clip: CameraClip) -> np.ndarray:
    """Return a photograph, downsampled by area to :data:`DOWNSAMPLING` pixels per high-resolution pixel."""
    if (found := sha256_of(path)) != clip.sha256:
        raise SystemExit(f"{path}: sha256: want {clip.sha256}, got {found}; see docs/data.md for the file")
    factor = DOWNSAMPLING / clip.reduction
    return cv2.resize(read_image(path), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def draw_sign() -> np.ndarray:
    """Draw :data:`LINES` on a plain ground that is larger than a frame, uint8 ``(H, W, 3)``."""
    margin = 64
    sign = Image.new("RGB", (DOWNSAMPLING * (WIDTH + 2 * margin), DOWNSAMPLING * (HEIGHT + 2 * margin)), GROUND)
    draw, fonts = ImageDraw.Draw(sign), Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    heights = [round(1.3 * DOWNSAMPLING * size) for _, size, _ in LINES]
    y = (sign.height - sum(heights)) // 2
    for (font, size, text), height in zip(LINES, heights, strict=True):
        lettering = ImageFont.truetype(
            str(fonts / f"{font}.ttf"), DOWNSAMPLING * size, layout_engine=ImageFont.Layout.BASIC
        )
        draw.text((DOWNSAMPLING * (margin + 14), y), text, INK, lettering)
        y += height
    return np.asarray(sign)


def render_clip(image: np.ndarray, clip: CameraClip) -> np.ndarray:
    """Render the frames of a camera above an image: uint8 ``(FRAMES, HEIGHT, WIDTH, 3)``."""
    heading = math.radians(clip.heading)
    along = SCALE * clip.speed * (np.arange(FRAMES) - FRAMES // 2)
    path = CameraPath(
        shift=along[:, None] * np.array([math.cos(heading), math.sin(heading)]),
        angle=np.full(FRAMES, math.radians(clip.turn)),
        log_zoom=np.zeros(FRAMES),
    )
    center = np.array(clip.center) * image.shape[1::-1]
    side = max(WIDTH, HEIGHT)
    frames = Layer(image, path.matrices(), center, DOWNSAMPLING).render(side)
    top, left = (side - HEIGHT) // 2, (side - WIDTH) // 2
    return np.ascontiguousarray(frames[:, top : top + HEIGHT, left : left + WIDTH])


def write(folder: Path, frames: np.ndarray) -> None:
    """Write frames as lossless WebP, in place of those that are in the folder; `ship.py` compresses them further."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:05d}.webp", "WEBP", lossless=True, method=0, quality=0)


if __name__ == "__main__":
    tyro.cli(main)
