"""Test by eye whether two methods of a scene differ, with sides shuffled and names hidden.

    python tools/blind_test.py make casa_mila sign --pairs plain,teacher --out blind --key blind_key.json
    python tools/blind_test.py score --answers blind/answers.json --key blind_key.json

The first command writes one image a trial: the same crop of the ground truth, above, and of two methods, side by side
as A and B. The judge writes A or B for each trial into ``answers.json``, without a look at the key. The second command
counts the answers.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import binomtest

from workbench.runs import shipped
from workbench.scenes import Scene, read_scene

QUESTION = "Which of the two lower images, A or B, is closer to the reference above them?"
INSTRUCTIONS = """{count} images are in {folder}. The question for each of them is:

    {question}

Look at the images one after the other at their own size, without zoom, and write "A" or "B" for each into
{answers}; guess where there is no difference. Do not open {key} before all answers
are written. Then: python tools/blind_test.py score --answers {answers} --key {key}"""

GAP, LABEL_HEIGHT, GROUND, INK = 12, 20, (128, 128, 128), (255, 255, 255)
STRIDE = 8
"""Pixels between the possible positions of a crop."""


@dataclass(frozen=True)
class Trial:
    """One question.

    Attributes:
        scene: name of the scene.
        pair: the two methods; the second is the one that should be closer to the ground truth.
        frame: index of the frame.
        top: first row of the crop.
        left: first column of the crop.
        a: method on the left.
        b: method on the right.
        smaller_error: method whose crop has the smaller squared error.
    """

    scene: str
    pair: tuple[str, str]
    frame: int
    top: int
    left: int
    a: str
    b: str
    smaller_error: str

    def chosen(self, answer: str) -> str:
        """Return the method that an answer, A or B, has chosen."""
        return {"A": self.a, "B": self.b}[answer]


def make(
    scenes: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    out: Path,
    key: Path,
    pairs: tuple[str, ...] = ("plain,teacher",),
    trials: int = 6,
    crop: tuple[int, int] = (128, 128),
    zoom: int = 1,
    seed: int | None = None,
) -> None:
    """Write the images of a test, an empty list of answers, and the key.

    Args:
        scenes: names of shipped scenes, or folders of scenes.
        out: new folder for the images and ``answers.json``.
        key: new file for the key, outside of that folder.
        pairs: two methods each, separated by a comma; the second should be the better one.
        trials: trials of each scene and pair.
        crop: width and height of the crops.
        zoom: factor by which pixels are repeated; 1 is the native size.
        seed: decides crops, sides and order; drawn at random where it is left out, so that the judge does not know it.
    """
    if key.resolve().is_relative_to(out.resolve()):
        raise SystemExit(f"--key: want a file outside of {out}, got {key}; the judge opens that folder")
    if out.exists() or key.exists():
        raise SystemExit(f"--out, --key: want new ones, got {out} and {key}; choose other names")
    seed = secrets.randbits(63) if seed is None else seed
    rng = np.random.default_rng(seed)
    drawn: list[tuple[Trial, Image.Image]] = []
    for name, pair in product(scenes, pairs):
        folder = Path(name) if (Path(name) / "scene.json").is_file() else shipped("scenes") / name
        scene, (first, second) = read_scene(folder), pair.split(",")
        for frame, top, left in draw_crops(scene, trials, crop, rng):
            patches = {one: _crop(scene.frame(one, frame), top, left, crop) for one in ("high", first, second)}
            a, b = (first, second) if rng.random() < 0.5 else (second, first)
            errors = {one: _squared_error(patches[one], patches["high"]) for one in (first, second)}
            better = min(errors, key=lambda one: errors[one])
            trial = Trial(scene.name, (first, second), frame, top, left, a, b, better)
            drawn.append((trial, draw_trial(patches["high"], patches[a], patches[b], zoom=zoom)))
    order = [drawn[index] for index in rng.permutation(len(drawn))]
    out.mkdir(parents=True)
    names = [f"{number:03d}" for number in range(1, len(order) + 1)]
    for number, (_, image) in zip(names, order, strict=True):
        image.save(out / f"{number}.png", compress_level=0)  # the size of a file depends on its width and height only
    answers = out / "answers.json"
    answers.write_text(json.dumps(dict.fromkeys(names, ""), indent=1), encoding="utf-8")
    found = {number: asdict(trial) for number, (trial, _) in zip(names, order, strict=True)}
    key.write_text(json.dumps({"seed": seed, "zoom": zoom, "trials": found}, indent=1), encoding="utf-8")
    print(INSTRUCTIONS.format(count=len(order), folder=out, question=QUESTION, answers=answers, key=key))


def draw_crops(scene: Scene, count: int, crop: tuple[int, int], rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Draw frame, first row and first column of different crops, among the half of a frame's crops with more detail.

    Detail is the mean difference of neighboring pixels of the ground truth. Frames recur only after all were used.
    """
    width, height = crop
    if width > scene.width or height > scene.height:
        raise SystemExit(f"--crop: want at most {scene.width} {scene.height} for {scene.name}, got {width} {height}")
    frames = [int(n) for _ in range(-(-count // scene.frames)) for n in rng.permutation(scene.frames)][:count]
    places = list(product(range(0, scene.height - height + 1, STRIDE), range(0, scene.width - width + 1, STRIDE)))
    found = []
    for frame in frames:
        truth = scene.frame("high", frame).astype(float).mean(-1)
        detail = [_detail(_crop(truth, top, left, crop)) for top, left in places]
        detailed = [place for place, amount in zip(places, detail, strict=True) if amount >= np.median(detail)]
        left_over = [place for place in detailed if (frame, *place) not in found]
        if not left_over:
            raise SystemExit(f"--trials: want fewer than {count}, or smaller crops; {scene.name} has no more crops")
        found.append((frame, *left_over[rng.integers(len(left_over))]))
    return found


def draw_trial(reference: np.ndarray, a: np.ndarray, b: np.ndarray, *, zoom: int) -> Image.Image:
    """Draw the reference above two crops, each with its label."""
    height, width = (side * zoom for side in reference.shape[:2])
    image = Image.new("RGB", (2 * width + 3 * GAP, 2 * (height + LABEL_HEIGHT) + 3 * GAP), GROUND)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    low = GAP + LABEL_HEIGHT + height + GAP
    middle, right = (image.width - width) // 2, width + 2 * GAP
    places = [("reference", reference, middle, GAP), ("A", a, GAP, low), ("B", b, right, low)]
    for label, patch, x, y in places:
        draw.text((x + width / 2, y + LABEL_HEIGHT / 2), label, INK, font, anchor="mm")
        large = Image.fromarray(patch).resize((width, height), Image.Resampling.NEAREST)
        image.paste(large, (x, y + LABEL_HEIGHT))
    return image


def score(*, answers: Path, key: Path) -> None:
    """Print how often the second method of each pair was chosen, for each scene and for all.

    Args:
        answers: the file that `make` has written, with A or B for every trial.
        key: the key that `make` has written.
    """
    given = json.loads(answers.read_text(encoding="utf-8"))
    record = json.loads(key.read_text(encoding="utf-8"))
    trials = {number: Trial(**{**one, "pair": tuple(one["pair"])}) for number, one in record["trials"].items()}
    print(table(trials, given))


def table(trials: dict[str, Trial], given: dict[str, str]) -> str:
    """Return the counts as a Markdown table, with the two-sided binomial p-value against guesses."""
    wrong = [number for number in trials if given.get(number) not in ("A", "B")] + sorted(given.keys() - trials.keys())
    if wrong:
        raise SystemExit(f"answers: want A or B for each of the {len(trials)} trials; wrong: {', '.join(wrong)}")
    lines = [
        "| scene | pair | second method chosen | p, two-sided | choice has the smaller error |",
        "| --- | --- | --- | --- | --- |",
    ]
    pairs = list(dict.fromkeys(trial.pair for trial in trials.values()))
    for pair in pairs:
        of_pair = {number: trial for number, trial in trials.items() if trial.pair == pair}
        scenes = sorted({trial.scene for trial in of_pair.values()})
        for scene in [*scenes, *["all"] * (len(scenes) > 1)]:
            numbers = [number for number, trial in of_pair.items() if scene in (trial.scene, "all")]
            chosen = [(trials[number], trials[number].chosen(given[number])) for number in numbers]
            count, second = len(chosen), sum(one == pair[1] for _, one in chosen)
            smaller = sum(one == trial.smaller_error for trial, one in chosen)
            p = binomtest(second, count).pvalue
            lines.append(f"| {scene} | {', '.join(pair)} | {second} of {count} | {p:.3g} | {smaller} of {count} |")
    return "\n".join(lines)


def _crop(image: np.ndarray, top: int, left: int, crop: tuple[int, int]) -> np.ndarray:
    return image[top : top + crop[1], left : left + crop[0]]


def _detail(patch: np.ndarray) -> float:
    return float(np.abs(np.diff(patch, axis=0)).mean() + np.abs(np.diff(patch, axis=1)).mean())


def _squared_error(patch: np.ndarray, truth: np.ndarray) -> float:
    return float(((patch.astype(float) - truth) ** 2).mean())


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"make": make, "score": score})
