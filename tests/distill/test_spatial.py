"""Spatial distillation by hand, by property, and against a gradient worked out on paper."""

import numpy as np
import pytest
import torch

from workbench.distill.spatial import ATTENTION_KINDS, attention_map, attention_overlap, spatial_distillation
from workbench.errors import ShapeError

PIXEL = torch.tensor([3.0, -4.0]).view(2, 1, 1)  # one pixel, two channels


def features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("mapping", "value"), [("sum_squares", 25.0), ("sum_abs", 7.0), ("max_squares", 16.0)])
def test_maps_by_hand(mapping, value):
    assert attention_map(PIXEL, kind=mapping).item() == value


def test_a_unit_map_by_hand():
    """One channel, energies 9 and 16: divided by sqrt(81 + 256)."""
    row = torch.tensor([[[3.0, 4.0]]])
    assert attention_map(row, normalization="unit")[0].tolist() == pytest.approx([9 / 337**0.5, 16 / 337**0.5])


@pytest.mark.parametrize(
    ("mapping", "wanted"),
    [("sum_squares", ((5 - 9) ** 2 + (0 - 1) ** 2) / 2), ("sum_abs", ((3 - 3) ** 2 + 1) / 2), ("max_squares", 26 / 2)],
)
def test_the_loss_by_hand(mapping, wanted):
    """Student: channels (1, 2) and (0, 0) at two pixels; teacher: one channel, 3 and -1."""
    student = torch.tensor([[1.0, 0.0], [2.0, 0.0]]).view(1, 1, 2, 1, 2)
    teacher = torch.tensor([3.0, -1.0]).view(1, 1, 1, 1, 2)
    assert spatial_distillation(student, teacher, kind=mapping, normalization="none").item() == pytest.approx(wanted)


def test_the_unit_loss_by_hand():
    """Maps (1, 0) and (0, 1): squared distances 1 and 1, a mean of 1 over two pixels, times two pixels."""
    student, teacher = torch.tensor([1.0, 0.0]).view(1, 1, 1, 1, 2), torch.tensor([0.0, 5.0]).view(1, 1, 1, 1, 2)
    assert spatial_distillation(student, teacher, normalization="unit").item() == pytest.approx(2.0)


def test_the_loss_is_a_mean_over_frames_and_clips():
    """Doubling the clip or the batch with equal frames changes nothing; a second frame without a gap halves it."""
    student, teacher = features(1, 1, 4, 3, 3), features(1, 1, 6, 3, 3, seed=1)
    one = spatial_distillation(student, teacher)
    twice = spatial_distillation(student.repeat(2, 3, 1, 1, 1), teacher.repeat(2, 3, 1, 1, 1))
    assert torch.allclose(one, twice)
    halved = spatial_distillation(
        torch.cat((student, torch.zeros(1, 1, 4, 3, 3)), dim=1), torch.cat((teacher, torch.zeros(1, 1, 6, 3, 3)), dim=1)
    )
    assert torch.allclose(halved, one / 2)


@pytest.mark.parametrize("mapping", ATTENTION_KINDS)
@pytest.mark.parametrize("normalization", ["none", "unit"])
def test_zero_when_equal_and_positive_otherwise(mapping, normalization):
    settings = {"kind": mapping, "normalization": normalization}
    student = features(2, 3, 4, 5, 6)
    assert spatial_distillation(student, student, **settings) == 0
    assert spatial_distillation(student, features(2, 3, 4, 5, 6, seed=1), **settings) > 0


@pytest.mark.parametrize("mapping", ATTENTION_KINDS)
def test_the_order_and_the_sign_of_channels_do_not_matter(mapping):
    student = features(1, 2, 6, 4, 4)
    shuffled = -student[:, :, [3, 1, 5, 0, 4, 2]]
    assert torch.allclose(attention_map(student, kind=mapping), attention_map(shuffled, kind=mapping))


@pytest.mark.parametrize("mapping", ATTENTION_KINDS)
def test_channel_counts_may_differ(mapping):
    """Silent channels add nothing, so a student with fewer channels can match a teacher exactly."""
    student = features(1, 2, 3, 4, 4)
    teacher = torch.cat((torch.zeros(1, 2, 5, 4, 4), student), dim=2)
    assert spatial_distillation(student, teacher, kind=mapping) == 0


@pytest.mark.parametrize("mapping", ATTENTION_KINDS)
def test_unit_maps_ignore_brightness(mapping):
    student, teacher = features(1, 2, 3, 4, 4), features(1, 2, 5, 4, 4, seed=1)
    settings = {"kind": mapping, "normalization": "unit"}
    wanted = spatial_distillation(student, teacher, **settings)
    assert torch.allclose(spatial_distillation(7 * student, teacher / 3, **settings), wanted, rtol=1e-5)
    assert not torch.allclose(
        spatial_distillation(7 * student, teacher, kind=mapping, normalization="none"),
        spatial_distillation(student, teacher, kind=mapping, normalization="none"),
    )


@pytest.mark.parametrize("normalization", ["none", "unit"])
def test_the_loss_does_not_depend_on_the_crop_size(normalization):
    """The same image tiled 2x2 has the same loss."""
    student, teacher = features(1, 2, 3, 4, 4), features(1, 2, 5, 4, 4, seed=1)
    tiled = spatial_distillation(
        student.repeat(1, 1, 1, 2, 2), teacher.repeat(1, 1, 1, 2, 2), normalization=normalization
    )
    assert torch.allclose(tiled, spatial_distillation(student, teacher, normalization=normalization), rtol=1e-5)


def test_unit_maps_have_length_one_or_zero():
    maps = attention_map(torch.cat((features(3, 4, 5, 6), torch.zeros(1, 4, 5, 6))), normalization="unit")
    assert maps.flatten(1).norm(dim=1).tolist() == pytest.approx([1, 1, 1, 0], abs=1e-6)


@pytest.mark.parametrize("normalization", ["none", "unit"])
def test_zero_features_have_a_finite_gradient(normalization):
    student = torch.zeros(1, 1, 3, 4, 4, requires_grad=True)
    spatial_distillation(student, features(1, 1, 3, 4, 4), normalization=normalization).backward()
    assert student.grad.isfinite().all()


def test_all_squares_are_at_least_the_largest():
    student = features(4, 8, 5, 5)
    assert (attention_map(student) >= attention_map(student, kind="max_squares")).all()
    assert (attention_map(student) <= attention_map(student, kind="sum_abs").square() + 1e-5).all()


@pytest.mark.parametrize("mapping", ATTENTION_KINDS)
@pytest.mark.parametrize("normalization", ["none", "unit"])
def test_the_gradient_reaches_the_student_only(mapping, normalization):
    student = features(1, 2, 4, 4, 4).requires_grad_()
    teacher = features(1, 2, 4, 4, 4, seed=1).requires_grad_()
    spatial_distillation(student, teacher, kind=mapping, normalization=normalization).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("normalization", ["none", "unit"])
def test_the_gradient_by_hand(normalization):
    r"""Sum of squares, float64: dL/dF = 2F dL/dM; for unit maps u = M/|M|, dL/dM = (I - uu')/|M| dL/du."""
    student, teacher = features(2, 3, 4, 5, 6).requires_grad_(), features(2, 3, 4, 5, 6, seed=1)
    spatial_distillation(student, teacher, normalization=normalization).backward()
    ours, theirs = student.detach().double().numpy(), teacher.double().numpy()
    maps, others = (ours**2).sum(2).reshape(6, 30), (theirs**2).sum(2).reshape(6, 30)
    if normalization == "none":
        slope = 2 * (maps - others) / maps.size
    else:
        lengths = np.linalg.norm(maps, axis=1, keepdims=True)
        unit, other = maps / lengths, others / np.linalg.norm(others, axis=1, keepdims=True)
        along = 2 * (unit - other) / 6
        slope = (along - unit * (unit * along).sum(1, keepdims=True)) / lengths
    wanted = 2 * ours * slope.reshape(2, 3, 1, 5, 6)
    assert np.allclose(student.grad.numpy(), wanted, rtol=1e-4, atol=1e-7)


def test_half_precision_features_are_summed_in_float32():
    """300 squared is beyond half precision's largest number."""
    assert attention_map(torch.full((1, 1, 1), 300.0, dtype=torch.float16)).item() == 90_000


def test_other_frames_or_sizes_raise():
    with pytest.raises(ShapeError, match="same frames and size"):
        spatial_distillation(features(1, 2, 4, 4, 4), features(1, 3, 4, 4, 4))
    with pytest.raises(ShapeError, match="same frames and size"):
        spatial_distillation(features(1, 2, 4, 4, 4), features(1, 2, 4, 4, 8))
    with pytest.raises(ShapeError, match=r"want \(\.\.\., C, H, W\), got \(4, 4\)"):
        attention_map(features(4, 4))


def test_an_unknown_kind_or_normalization_raises():
    with pytest.raises(ValueError, match=r"kind: .*sum_squares, .*got 'mean'"):
        attention_map(PIXEL, kind="mean")
    with pytest.raises(ValueError, match=r"normalization: .*got 'l1'"):
        attention_map(PIXEL, normalization="l1")


def test_overlap_is_the_cosine_similarity():
    first = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]], [[1.0, 0.0]]])
    second = torch.tensor([[[5.0, 0.0]], [[1.0, 0.0]], [[0.0, 2.0]]])
    assert attention_overlap(first, second).tolist() == pytest.approx([1.0, 0.5**0.5, 0.0])
