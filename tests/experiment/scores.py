"""Results that are small enough to check by hand."""

from workbench.experiment.results import Results

SETTINGS = {
    "teacher.name": "edvr_tiny", "teacher.weights": "0" * 64, "student.name": "vespcn_s", "steps": 100,
    "data.batch_size": 4, "data.num_frames": 5, "data.crop_size": 32,
    "data.num_fixed_crops": 600, "data.augmentations_per_crop": 4,
}  # fmt: skip


def scores(value):
    mean = {"psnr_y_db": value, "ssim_y": 0.7, "tof": 0.3}
    return {"vid4": {"walk": mean, "mean": mean}}


def make_results(**settings):
    """Plain 24.00, 24.10, 24.20; SD higher by .05, .06, .07; output lower by .1, equal, higher by .1."""
    results = Results(SETTINGS | settings, references={"bicubic": scores(23.8), "teacher": scores(24.6)})
    for seed, plain in enumerate((24.0, 24.1, 24.2)):
        gains = {"plain": 0.0, "sd_w0.001": 0.05 + 0.01 * seed, "output_w0.5": 0.1 * (seed - 1)}
        for variant, gain in gains.items():
            results.scores.setdefault(variant, {})[seed] = scores(plain + gain)
    return results
