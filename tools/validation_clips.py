"""Write moving clips of the validation set, or to train on: ``python tools/validation_clips.py --out FOLDER``.

Still images under a moving camera, and real clips, as folders of PNG frames for
``workbench evaluate --protocol folders --data FOLDER``. Frames of real clips are downscaled 2x, which hides most
compression artifacts.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tyro

from workbench.data.sampling.motion import MotionSettings, make_clip
from workbench.data.sampling.stills import open_stills, read_still
from workbench.data.video.read import stream_video

SIDE = 64
"""Low-resolution pixels."""


def main(
    out: Path, stills: Path, clips: tuple[str, ...] = (), frames: int = 15, per_still: int = 1, seed: int = 1
) -> None:
    """Write the clips.

    Args:
        out: the folder to write.
        stills: folder of still images; for the validation set, images that no training uses.
        clips: real clips as ``FILE@FIRST``, the number of the first frame.
        frames: frames of each clip.
        per_still: clips rendered from each still image.
        seed: decides the camera motions.
    """
    settings = MotionSettings(
        crop_size=SIDE, num_frames=frames, min_speed=0.2, max_speed=1.5, layer_share=0, text_share=0
    )
    for file in open_stills(stills, min_side=settings.min_still_side).files:
        image = read_still(file)
        for number in range(per_still):
            rng = np.random.default_rng((seed, number))
            write(
                out / f"{file.state.path.stem}-{number}", make_clip(lambda rng, image=image: image, rng, settings).high
            )
    for clip in clips:
        name, _, first = clip.rpartition("@")
        read = stream_video(name, first=int(first), last=int(first) + frames)
        shrunk = [cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for frame in read]
        write(out / f"{Path(name).stem}-{first}", np.stack(shrunk))


def write(folder: Path, frames: np.ndarray) -> None:
    """Write frames ``(T, H, W, 3)`` as PNG files, cut to multiples of 4 pixels."""
    folder.mkdir(parents=True)
    height, width = (side // 4 * 4 for side in frames.shape[1:3])
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number:08d}.png"), np.ascontiguousarray(frame[:height, :width, ::-1]))


if __name__ == "__main__":
    tyro.cli(main)
