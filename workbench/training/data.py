"""Training data of a run: crops of video, still images in motion, or both."""

from __future__ import annotations

from itertools import chain

from workbench.config import Data
from workbench.data.sampling.crops import CropSampler, Footage, check_size
from workbench.data.sampling.mixed import ClipSource, MixedSampler
from workbench.data.sampling.motion import MotionSampler, MotionSettings
from workbench.data.sampling.pairs import open_pairs
from workbench.data.sampling.pool import PoolSampler, is_pool
from workbench.data.sampling.shards import ShardSampler, is_shard_set, open_shards
from workbench.data.sampling.stills import open_stills
from workbench.errors import DataError


def open_data(data: Data, seed: int) -> CropSampler | ShardSampler | MixedSampler:
    """Open the training data of a run: video, still images in motion, or both.

    Raises:
        DataError: data that is missing, too short or too small, or shards with anything else.
    """
    if not data.uses_stills:
        return open_crops(data, seed)
    motion = open_motion(data, seed)
    video = open_crops(data, seed) if data.uses_video else None
    if isinstance(video, ShardSampler):
        raise DataError(
            f"data.stills_share: {', '.join(data.clips)} contains shards, which are read from one end to the other and "
            "cannot be mixed with clips from stills; prepare the video with --format arrays, or set it to 0 or 1"
        )
    return MixedSampler(motion, video, batch_size=data.batch_size, share=data.stills_share)


def open_motion(data: Data, seed: int) -> ClipSource:
    """Open the still images of a run, or the pool that was prepared from some.

    Raises:
        DataError: no such folder, no usable image in it, or a pool that does not fit.
    """
    settings = MotionSettings(
        crop_size=data.crop_size,
        num_frames=data.num_frames,
        scale=data.scale,
        degradation=data.degradation,
        augment=data.augment,
        min_speed=data.stills_min_speed,
    )
    if is_pool(data.stills):
        if settings.min_speed != Data.stills_min_speed:
            raise DataError(
                f"data.stills_min_speed: {data.stills} was rendered beforehand, want {Data.stills_min_speed}, got "
                f"{data.stills_min_speed}; name a folder of still images, or leave the speed out"
            )
        return PoolSampler(data.stills, settings, seed=seed)
    return MotionSampler(open_stills(data.stills, min_side=settings.min_still_side), settings, seed=seed)


def open_crops(data: Data, seed: int) -> CropSampler | ShardSampler:
    """Return the sampler of crops of a run's video.

    Raises:
        DataError: video that is missing, too short or too small, or shards mixed with anything else.
    """
    shards = [spec for spec in data.clips if is_shard_set(spec)]
    if shards and len(shards) < len(data.clips):
        others = ", ".join(spec for spec in data.clips if spec not in shards)
        raise DataError(f"data.clips: {', '.join(shards)} contains shards and {others} does not; they cannot be mixed")
    if shards:
        if data.num_fixed_crops:
            raise DataError(
                f"data.num_fixed_crops: {', '.join(shards)} contains shards, which are read from one end to the other; "
                "for fixed crops prepare the video with --format arrays"
            )
        if data.moving_share:
            raise DataError(
                f"data.moving_share: want 0 for shards, which are read from one end to the other, got "
                f"{data.moving_share}; set it to 0, or prepare {', '.join(shards)} with --format arrays"
            )
        opened = [open_shards(spec, scale=data.scale, degradation=data.degradation) for spec in shards]
        return ShardSampler(
            list(chain.from_iterable(opened)), crop_size=data.crop_size, num_frames=data.num_frames,
            batch_size=data.batch_size, augment=data.augment, seed=seed,
        )  # fmt: skip
    pairs: list[Footage] = []
    for spec in data.clips:
        opened = open_pairs(spec, scale=data.scale, degradation=data.degradation, num_frames=data.num_frames)
        for pair in opened:
            check_size(pair.low_shape, spec, data.crop_size, data.num_frames)
        pairs += opened
    return CropSampler(
        pairs, crop_size=data.crop_size, num_frames=data.num_frames, batch_size=data.batch_size, augment=data.augment,
        seed=seed, num_fixed_crops=data.num_fixed_crops, augmentations_per_crop=data.augmentations_per_crop,
        fixed_crops_seed=data.fixed_crops_seed, moving_share=data.moving_share, moving_above=data.moving_above,
    )  # fmt: skip
