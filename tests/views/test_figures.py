import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from workbench.errors import ShapeError
from workbench.views import figures


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    assert plt.get_fignums() == []


def scales(figure):
    return [image.get_clim() for axis in figure.axes for image in axis.images]


def test_triptych_shares_one_scale_and_centers_the_difference():
    teacher, student = np.array([[0.0, 2.0]]), np.array([[3.0, 1.0]])
    figure = figures.attention_triptych(teacher, student, title="frame 3")
    maps, (low, high) = scales(figure)[:2], scales(figure)[2]
    assert maps == [(0, 3), (0, 3)]
    assert (low, high) == (-3, 3)  # 3 - 0 is the largest gap
    np.testing.assert_allclose(figure.axes[2].images[0].get_array(), [[3, -1]])


def test_color_bars_have_numbers():
    figure = figures.attention_triptych(np.eye(4), np.eye(4) / 2)
    bars = [axis for axis in figure.axes if not axis.images or axis.get_label() == "<colorbar>"]
    assert len([axis for axis in bars if axis.get_yticklabels()]) >= 2


def test_nan_is_marked_and_not_drawn_as_zero():
    bad = np.ones((3, 3))
    bad[1, 2] = np.nan
    figure = figures.attention_triptych(bad, np.ones((3, 3)))
    assert "1 not a number" in figure.axes[0].get_title()
    assert figure.axes[0].images[0].get_array().mask[1, 2]
    (mark,) = figure.axes[0].lines
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (2, 1)
    assert scales(figure)[0] == (0, 1)


def test_memory_has_one_symmetric_scale():
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 10, 4, 5))
    figure = figures.memory_grid(teacher, student)
    reach = max(np.abs(teacher[:8]).max(), np.abs(student[:8]).max())
    assert set(scales(figure)[:16]) == {(-reach, reach)}
    assert [axis.get_title() for axis in figure.axes[:8]] == [f"channel {k}" for k in range(8)]


def test_a_grid_of_maps_has_one_scale_and_named_rows():
    rows = {"teacher": np.ones((3, 2, 4)), "plain": [np.eye(2, 4) * k for k in range(3)]}
    figure = figures.map_grid(rows, ["frame 1", "frame 2", "frame 3"], label="attention")
    assert set(scales(figure)[:6]) == {(0, 2)}
    assert [axis.get_title() for axis in figure.axes[:4]] == ["frame 1", "frame 2", "frame 3", ""]
    assert [figure.axes[place].get_ylabel() for place in (0, 3)] == ["teacher", "plain"]


def test_arrows_show_the_true_and_the_estimated_flow_at_the_same_pixels():
    true = np.stack((np.full((10, 15), 2.0), np.full((10, 15), -1.0)))
    figure = figures.flow_arrows(np.zeros((10, 15, 3)), true, {"half": true / 2, "zero": 0 * true}, every=5)
    half, zero = figure.axes
    assert (half.get_title(), zero.get_title()) == ("half", "zero")
    drawn, found = half.collections
    assert (drawn.U == 2).all()
    assert (found.V == -0.5).all()
    np.testing.assert_array_equal(drawn.XY, found.XY)
    assert len(found.XY) == 6


def test_terms_keep_their_names_and_gaps():
    figure = figures.loss_terms([1, 2, 3, 4], {"reconstruction": [0.1, None, 0.05, 0.04], "spatial": [1, 2, 3, 4]})
    (axis,) = figure.axes
    assert axis.get_yscale() == "log"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["reconstruction", "spatial"]
    assert np.isnan(axis.lines[0].get_ydata()[1])


def test_curves_have_the_colors_of_the_lens():
    figure = figures.curves({"plain": [None, 30.0], "teacher": [None, 31.0]}, label="PSNR-Y", unit="dB")
    (axis,) = figure.axes
    assert [line.get_color() for line in axis.lines][::2][:2] == ["#0072b2", "#009e73"]
    assert "PSNR-Y (dB)" in axis.get_ylabel()
    assert "higher is better" in axis.get_ylabel()


def test_images_are_side_by_side():
    images = {name: np.zeros((4, 6, 3), np.uint8) for name in ("a", "b", "c", "d")}
    figure = figures.side_by_side(images, columns=2)
    assert isinstance(figure, Figure)
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c", "d"]


CROWD = ({"plain": 0.2, "distilled": 0.2, "teacher": 0.21, "bicubic": 0.01}, [27.0, 27.1, 27.05, 26.0])


def crowd():
    seconds, scores = CROWD
    labels = {name: f"{name} with a long name" for name in seconds}
    quality = dict(zip(seconds, scores, strict=True))
    return figures.quality_over_time(seconds, quality, pairs=[("plain", "distilled")], labels=labels)


def test_time_is_logarithmic_and_every_method_is_where_its_numbers_are():
    (axis,) = crowd().axes
    assert axis.get_xscale() == "log"
    seconds, scores = CROWD
    places = {(line.get_xdata()[0], line.get_ydata()[0]) for line in axis.lines}
    assert places == set(zip(seconds.values(), scores, strict=True))
    assert "higher is better" in axis.get_ylabel()


def test_methods_differ_without_color():
    (axis,) = crowd().axes
    looks = [(line.get_marker(), line.get_markerfacecolor() == line.get_color()) for line in axis.lines]
    assert len(set(looks)) == len(looks)


def test_labels_do_not_overlap_and_stay_inside():
    figure = crowd()
    figure.draw_without_rendering()
    (axis,) = figure.axes
    texts = [text for text in axis.texts if text.get_text()]
    assert [text.get_text() for text in texts] == [
        "plain with a long name",
        "distilled with a long name, +0.10",
        "teacher with a long name",
        "bicubic with a long name",
    ]
    boxes = [text.get_window_extent() for text in texts]
    assert not [(a, b) for a in range(4) for b in range(a) if boxes[a].overlaps(boxes[b])]
    points = [axis.transData.transform((line.get_xdata()[0], line.get_ydata()[0])) for line in axis.lines]
    assert not [box for box in boxes for point in points if box.contains(*point)]
    frame = axis.get_window_extent()
    assert all(frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1) for box in boxes)


@pytest.mark.parametrize(("after", "aside"), [(27.02, True), (29.0, False)])
def test_an_arrow_leads_from_plain_to_distilled(after, aside):
    """Between the marks where there is room, and as high but next to them where there is not."""
    figure = figures.quality_over_time(
        {"a": 0.2, "b": 0.2, "c": 0.1}, {"a": 27.0, "b": after, "c": 25.0}, pairs=[("a", "b")]
    )
    (axis,) = figure.axes
    (arrow,) = [text for text in axis.texts if text.arrow_patch is not None]
    assert arrow.xyann[1] == pytest.approx(27.0)
    assert arrow.xy[1] == pytest.approx(after)
    assert arrow.xy[0] == pytest.approx(arrow.xyann[0])
    assert (arrow.xy[0] > 0.2 * 1.001) == aside


def test_bars_of_the_temporal_share():
    gains = {"teacher": {"true": 0.8, "copies": 0.75}, "plain": {"true": 0.5, "copies": -0.25}}
    figure = figures.temporal_share(gains, labels={"true": "true neighbors"})
    (axis,) = figure.axes
    assert [[bar.get_height() for bar in bars] for bars in axis.containers] == [[0.8, 0.5], [0.75, -0.25]]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["teacher", "plain"]
    assert [label.get_text() for label in axis.get_legend().get_texts()] == ["true neighbors", "copies"]
    assert "dB" in axis.get_ylabel()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.attention_triptych(np.ones((2, 3)), np.ones((3, 2))),
        lambda: figures.memory_grid(np.ones((2, 3, 3)), np.ones((3, 3, 3))),
        lambda: figures.map_grid({"a": np.ones((2, 3, 3))}, ["only one"], label="map"),
        lambda: figures.map_grid({}, ["one"], label="map"),
        lambda: figures.flow_arrows(np.ones((4, 4, 3)), np.ones((2, 4, 4)), {"a": np.ones((2, 4, 5))}),
        lambda: figures.flow_arrows(np.ones((4, 4, 3)), np.ones((2, 4, 4)), {}),
        lambda: figures.side_by_side({}),
        lambda: figures.temporal_share({}),
        lambda: figures.temporal_share({"a": {"true": 1.0}, "b": {"copies": 1.0}}),
        lambda: figures.quality_over_time({}, {}),
        lambda: figures.quality_over_time({"a": 1.0}, {"b": 1.0}),
        lambda: figures.quality_over_time({"a": 1.0}, {"a": 1.0}, pairs=[("a", "b")]),
        lambda: figures.quality_over_time({"a": 0.0}, {"a": 1.0}),
        lambda: figures.quality_over_time({"a": 1.0}, {"a": np.inf}),
        lambda: figures.side_by_side({"a": np.ones((3, 3))}),
    ],
)
def test_wrong_shapes_are_refused(draw):
    with pytest.raises(ShapeError, match="want"):
        draw()
