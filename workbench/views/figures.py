"""Figures for notebooks and reports: functions of arrays that return a Figure and do not show it.

Panels that are compared share one scale. Scales of differences and memory cells have zero in the middle. A number that
is NaN or infinite is drawn as a cross, not as zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from workbench.errors import ShapeError
from workbench.views.colors import DIVERGING, INK, OTHERS, SEQUENTIAL, method_colors, term_colors

BAD = "#ff2fd6"
"""Color of NaN in a map; in neither scale."""


def colormap(diverging: bool = False) -> Colormap:
    """Return the colormap of the lens: dark to bright, or blue, light gray, orange."""
    stops, name = (DIVERGING, "workbench_diverging") if diverging else (SEQUENTIAL, "workbench_sequential")
    return LinearSegmentedColormap.from_list(name, stops).with_extremes(bad=BAD)


def attention_triptych(teacher_HW: np.ndarray, student_HW: np.ndarray, *, title: str = "") -> Figure:
    """Draw the attention maps of teacher and student, and their signed difference.

    Args:
        teacher_HW: the teacher's attention map.
        student_HW: the student's, same size.
        title: title of the figure.

    Returns:
        Three panels: the maps on one scale from 0, then student minus teacher with zero in the middle.

    Raises:
        ShapeError: the maps are not two-dimensional or differ in size.
    """
    if teacher_HW.ndim != 2 or teacher_HW.shape != student_HW.shape:
        raise ShapeError(f"maps: want two of (H, W), got {teacher_HW.shape} and {student_HW.shape}")
    top = max(_largest(teacher_HW), _largest(student_HW))
    gap = student_HW.astype(np.float64) - teacher_HW
    figure, axes = _panels(1, 3, teacher_HW.shape)
    _map(axes[0][0], teacher_HW, "teacher", low=0.0, high=top)
    shown = _map(axes[0][1], student_HW, "student", low=0.0, high=top)
    figure.colorbar(shown, ax=list(axes[0][:2]), shrink=0.8, label="attention, one scale for both")
    limit = _largest(np.abs(gap))
    shown = _map(axes[0][2], gap, "student minus teacher", low=-limit, high=limit, diverging=True)
    figure.colorbar(shown, ax=axes[0][2], shrink=0.8, label="difference")
    return _finished(figure, title)


def memory_grid(teacher_KHW: np.ndarray, student_KHW: np.ndarray, *, title: str = "") -> Figure:
    """Draw the first eight channels of the memory cells: teacher above, student below, one scale for all.

    Args:
        teacher_KHW: memory cells of one frame, ``(channels, H, W)``.
        student_KHW: the student's, same size.
        title: title of the figure.

    Raises:
        ShapeError: the cells are not three-dimensional or differ in size.
    """
    if teacher_KHW.ndim != 3 or teacher_KHW.shape != student_KHW.shape:
        raise ShapeError(f"cells: want two of (channels, H, W), got {teacher_KHW.shape} and {student_KHW.shape}")
    names = [f"channel {k}" for k in range(min(len(teacher_KHW), 8))]
    cells = {"teacher": list(teacher_KHW[:8]), "student": list(student_KHW[:8])}
    return map_grid(cells, names, label="memory cell", diverging=True, title=title)


def map_grid(
    rows: Mapping[str, Sequence[np.ndarray]],
    columns: Sequence[str],
    *,
    label: str,
    diverging: bool = False,
    width: float = 1.7,
    title: str = "",
) -> Figure:
    """Draw maps in a grid, with one scale for all.

    Args:
        rows: name of a row -> its maps ``(H, W)``, one per column.
        columns: names of the columns.
        label: label of the scale.
        diverging: whether zero is in the middle of the scale; otherwise it starts at zero.
        width: width of a map in inches.
        title: title of the figure.

    Raises:
        ShapeError: no row, rows of another length than ``columns``, or maps that differ in size.
    """
    sizes = {np.shape(image) for images in rows.values() for image in images}
    if {len(images) for images in rows.values()} != {len(columns)} or len(sizes) != 1:
        raise ShapeError(f"rows: want {len(columns)} maps of one size in each, got {list(rows)} with sizes {sizes}")
    (size,) = sizes
    limit = max(_largest(np.abs(image)) for images in rows.values() for image in images)
    figure, axes = _panels(len(rows), len(columns), size, width)
    for row, (name, images) in enumerate(rows.items()):
        axes[row][0].set_ylabel(name)
        for axis, image, column in zip(axes[row], images, columns, strict=True):
            heading = "" if row else column
            _map(axis, image, heading, low=-limit if diverging else 0.0, high=limit, diverging=diverging)
    figure.colorbar(axes[0][0].images[0], ax=axes.ravel().tolist(), shrink=0.9, label=label)
    return _finished(figure, title)


def flow_arrows(
    image: np.ndarray,
    true_flow: np.ndarray,
    estimated: Mapping[str, np.ndarray],
    *,
    every: int = 7,
    lengthen: float = 3.0,
    title: str = "",
) -> Figure:
    """Draw estimated optical flow as arrows over the true flow, one panel for each estimate.

    Args:
        image: the frame that the flow starts at, ``(H, W, 3)``.
        true_flow: ``(2, H, W)`` in pixels, x first; white.
        estimated: name -> flow like ``true_flow``; orange.
        every: distance of the arrows in pixels.
        lengthen: factor by which arrows are drawn longer than the motion.
        title: title of the figure.

    Raises:
        ShapeError: no estimate, or a flow of another size than the image.
    """
    shape = (2, *image.shape[:2])
    for name, flow in {"true flow": true_flow, **estimated}.items():
        if flow.shape != shape or not estimated:
            raise ShapeError(f"{name}: want a flow {shape} and at least one estimate, got {flow.shape}")
    figure, axes = _panels(1, len(estimated), image.shape[:2], width=3.0)
    at = np.mgrid[every // 2 : shape[1] : every, every // 2 : shape[2] : every]
    style = {"angles": "xy", "scale_units": "xy", "scale": 1 / lengthen}
    outlined = {"color": "white", "edgecolor": "black", "linewidth": 0.5, "width": 0.014}
    names = ["true flow", f"estimated flow (both drawn {lengthen:g} times as long)"]
    for axis, (name, flow) in zip(axes[0], estimated.items(), strict=True):
        axis.imshow(image, interpolation="nearest")
        axis.set(title=name, xticks=[], yticks=[])
        axis.quiver(at[1], at[0], *true_flow[:, at[0], at[1]], **style, **outlined)
        axis.quiver(at[1], at[0], *flow[:, at[0], at[1]], **style, color=DIVERGING[-2], width=0.009, zorder=3)
    figure.legend(axes[0][0].collections, names, loc="outside lower center", ncols=2, fontsize=8, facecolor="0.8")
    return _finished(figure, title)


def loss_terms(steps: Sequence[float], terms: Mapping[str, Sequence[float | None]], *, title: str = "") -> Figure:
    """Draw unweighted loss terms over steps on a logarithmic scale.

    Args:
        steps: training steps.
        terms: name -> value per step; None or NaN where it is missing.
        title: title of the figure.
    """
    figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
    colors = term_colors(terms)
    for name, values in terms.items():
        _line(axis, steps, values, name, colors[name])
    axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_ylabel("term, unweighted (lower is better)")
    return _finished(figure, title, legend=axis)


def curves(
    series: Mapping[str, Sequence[float | None]],
    *,
    label: str,
    unit: str = "",
    better: str = "higher",
) -> Figure:
    """Draw a score per frame for each method, in the colors of the lens.

    Args:
        series: method key -> value per frame; None or NaN where it is missing.
        label: name of the score.
        unit: unit of the score.
        better: ``higher`` or ``lower``.
    """
    figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
    colors = method_colors(series)
    for key, values in series.items():
        _line(axis, range(len(values)), values, key, colors[key])
    axis.set_xlabel("frame")
    axis.set_ylabel(" ".join(part for part in (label, f"({unit})" if unit else "", f"\n{better} is better") if part))
    return _finished(figure, "", legend=axis)


def temporal_share(
    gain_db: Mapping[str, Mapping[str, float]], *, labels: Mapping[str, str] | None = None, title: str = ""
) -> Figure:
    """Draw the gain over bicubic of each network with different neighbor frames, as bars side by side.

    Args:
        gain_db: network -> neighbors -> PSNR-Y gain in dB; the same neighbors for every network.
        labels: neighbors -> text of the legend.
        title: title of the figure.

    Raises:
        ShapeError: no network, or networks with different neighbors.
    """
    kinds = list(next(iter(gain_db.values()), {}))
    if not kinds or any(list(gains) != kinds for gains in gain_db.values()):
        raise ShapeError(f"gain_db: want the same kinds in all, got { ({key: list(g) for key, g in gain_db.items()}) }")
    figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
    width = 0.8 / len(kinds)
    for place, kind in enumerate(kinds):
        heights = [gains[kind] for gains in gain_db.values()]
        at = np.arange(len(heights)) + (place - (len(kinds) - 1) / 2) * width
        bars = axis.bar(at, heights, 0.92 * width, label=(labels or {}).get(kind, kind), color=OTHERS[place])
        axis.bar_label(bars, fmt="%+.2f", fontsize=7)
    axis.axhline(0, color=plt.rcParams["text.color"], linewidth=0.8)
    axis.margins(y=0.2)
    axis.set_xticks(range(len(gain_db)), list(gain_db))
    axis.set_ylabel("PSNR-Y gain over bicubic (dB)")
    return _finished(figure, title, legend=axis)


def quality_over_time(
    seconds: Mapping[str, float],
    quality: Mapping[str, float],
    *,
    pairs: Sequence[tuple[str, str]] = (),
    labels: Mapping[str, str] | None = None,
    quality_label: str = "PSNR-Y (dB)",
    time_label: str = "seconds per frame",
    title: str = "",
) -> Figure:
    """Draw the score of each method over its time on a logarithmic scale: up and left is better.

    Methods differ in color, in the shape of their marker, and in the label next to it.

    Args:
        seconds: method key -> seconds per frame.
        quality: method key -> score; higher is better.
        pairs: keys of a network without and with distillation; an arrow leads from the first to the second, and the
            gain is appended to the label of the second.
        labels: method key -> label.
        quality_label: label of the axis of scores.
        time_label: label of the axis of time.
        title: title of the figure.

    Raises:
        ShapeError: no method, a method without a time or a score, or a number that cannot be drawn.
    """
    if not seconds:
        raise ShapeError("seconds: want at least one method")
    for key in (*seconds, *quality, *chain(*pairs)):
        time, score = seconds.get(key, 0.0), quality.get(key, np.nan)
        if not (0 < time < np.inf and np.isfinite(score)):
            raise ShapeError(f"{key}: want a time above 0 and a finite score, got {time} and {score}")
    figure, axis = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    colors = method_colors(seconds)
    plain, distilled = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    axis.set_xscale("log")
    axis.margins(0.25, 0.18)
    for key in seconds:
        shape = "o" if key in plain | distilled else {"bicubic": "s", "teacher": "^"}.get(key, "D")
        ink = plt.rcParams["text.color"] if colors[key] == INK else colors[key]
        face = plt.rcParams["axes.facecolor"] if key in plain else ink
        axis.plot(seconds[key], quality[key], shape, color=ink, mfc=face, ms=7, mew=2, zorder=3)
    axis.set_xlabel(f"{time_label} (logarithmic; further left is better)")
    axis.set_ylabel(f"{quality_label}, higher is better")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.grid(alpha=0.2, which="both")
    if title:
        figure.suptitle(title, fontsize=10)
    points = {key: (seconds[key], quality[key]) for key in seconds}
    names = {key: (labels or {}).get(key, key) for key in seconds}
    names |= {after: f"{names[after]}, {quality[after] - quality[before]:+.2f}" for before, after in pairs}
    figure.draw_without_rendering()  # lays the axes out; places in pixels are known from here on
    taken = [_box(axis.transData.transform(point), 9.0) for point in points.values()]
    for before, after in pairs:
        taken += _arrow(axis, points[before], points[after])
    _place_labels(axis, list(points.values()), list(names.values()), taken)
    return _finished(figure, "")


def _arrow(axis: Axes, begin: tuple[float, float], end: tuple[float, float]) -> list[Bbox]:
    """Draw an arrow between two markers, or next to them where they are close; return the boxes that it covers."""
    ends = axis.transData.transform([begin, end])
    points = axis.figure.dpi / 72
    close = float(np.hypot(*(ends[1] - ends[0]))) < 30 * points
    if close:
        ends = ends + np.array([9 * points, 0])
    shrink = {"shrinkA": 0 if close else 5, "shrinkB": 0 if close else 4}
    (x0, y0), (x1, y1) = axis.transData.inverted().transform(ends)
    style = {"arrowstyle": "-|>", "color": "#444444", "linewidth": 1.2, "mutation_scale": 7 if close else 10}
    axis.annotate("", (x1, y1), (x0, y0), arrowprops=style | shrink, zorder=5)
    return [_box(ends[0] * (1 - share) + ends[1] * share, 3.0) for share in np.linspace(0, 1, 24)]


_AROUND = [
    (dx * distance, dy * distance, ("left", "center", "right")[1 - dx], ("bottom", "center", "top")[1 - dy])
    for distance in (10, 18, 28, 40)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
]
"""Candidate positions of a label, in points from its marker: left and right before above and below, near before far."""


def _place_labels(axis: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str], taken: list[Bbox]) -> None:
    """Place a label near each point, at the candidate position where it covers the fewest other objects."""
    frame = axis.get_window_extent()
    for point, label in zip(points, labels, strict=True):
        text = axis.annotate(label, point, (0, 0), textcoords="offset points", fontsize=9, zorder=4)

        def move(place: tuple[int, int, str, str], text: Text = text) -> Bbox:
            text.set(position=place[:2], ha=place[2], va=place[3])
            return text.get_window_extent()

        def covered(place: tuple[int, int, str, str]) -> int:
            box = move(place)
            return box.count_overlaps(taken) + 4 - frame.count_contains(box.corners())  # corners outside count too

        taken.append(move(min(_AROUND, key=covered)))


def _box(place: np.ndarray, limit: float) -> Bbox:
    return Bbox([place - limit, place + limit])


def side_by_side(images: Mapping[str, np.ndarray], *, columns: int = 3, title: str = "") -> Figure:
    """Draw images with their names, unsmoothed and all at one size.

    Args:
        images: name -> uint8 ``(H, W, 3)``, or floats in [0, 1]; sizes may differ (low next to high resolution).
        columns: maximum number of images in a row.
        title: title of the figure.

    Raises:
        ShapeError: an image with other axes, or no image.
    """
    if not images:
        raise ShapeError("images: want at least one, got none")
    for name, image in images.items():
        if image.ndim != 3 or image.shape[-1] != 3:
            raise ShapeError(f"image {name}: want (H, W, 3), got {image.shape}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure, axes = _panels(rows, columns, next(iter(images.values())).shape[:2])
    for axis in axes.ravel():
        axis.axis("off")
    for axis, (name, image) in zip(axes.ravel(), images.items(), strict=False):
        axis.imshow(image.clip(0, 1) if image.dtype.kind == "f" else image, interpolation="nearest")
        axis.set_title(name, fontsize=9)
    return _finished(figure, title)


def _largest(values: np.ndarray) -> float:
    """Return the largest finite number; 1 where it is not positive, since a scale needs a range."""
    there = values[np.isfinite(values)]
    return float(there.max()) if there.size and there.max() > 0 else 1.0


def _panels(rows: int, columns: int, size: tuple[int, ...], width: float = 3.2) -> tuple[Figure, np.ndarray]:
    height = width * size[0] / size[1]
    return plt.subplots(
        rows, columns, figsize=(columns * width, rows * (height + 0.35)), squeeze=False, layout="constrained"
    )


def _map(axis: Axes, values: np.ndarray, name: str, *, low: float, high: float, diverging: bool = False) -> Any:
    """Draw a map; crosses mark numbers that are not finite, and the title counts them."""
    finite = np.ma.masked_invalid(values.astype(np.float64))
    shown = axis.imshow(finite, cmap=colormap(diverging), vmin=low, vmax=high, interpolation="nearest")
    bad = np.ma.count_masked(finite)
    if bad:
        rows, columns = np.nonzero(finite.mask)
        axis.plot(columns, rows, "x", color="black", markersize=3, label="not a number", scalex=False, scaley=False)
    axis.set_title(name + (f" ({bad} not a number)" if bad else ""), fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
    return shown


def _line(axis: Axes, places: Sequence[float], values: Sequence[float | None], name: str, color: str) -> None:
    """Draw a line with gaps where numbers are missing, and crosses at the bottom of each gap."""
    ink = plt.rcParams["text.color"] if color == INK else color
    numbers = np.array(values, dtype=np.float64)  # NaN in place of None
    numbers[~np.isfinite(numbers)] = np.nan
    axis.plot(places, numbers, color=ink, label=name, linewidth=1.6, marker="." if len(numbers) < 40 else "")
    bad = np.isnan(numbers)
    if bad.any():
        at = np.asarray(list(places), dtype=np.float64)[bad]
        axis.plot(at, 0 * at, "x", color=ink, ms=5, transform=axis.get_xaxis_transform(), clip_on=False)


def _finished(figure: Figure, title: str, legend: Axes | None = None) -> Figure:
    if legend is not None:
        legend.grid(alpha=0.2)
        if legend.get_legend_handles_labels()[0]:
            legend.legend(fontsize=8, frameon=False, ncols=4, loc="best")
    if title:
        figure.suptitle(title, fontsize=10)
    plt.close(figure)  # a notebook shows what a cell returns; without this it would show it twice
    return figure
