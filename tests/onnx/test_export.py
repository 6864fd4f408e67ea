"""Exported networks give the frames of PyTorch, on clips of other sizes than the traced one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.tiny import TINY
from workbench.data.datasets.samples import sample
from workbench.data.sampling.crops import make_pair
from workbench.errors import ConfigError, ShapeError, WeightsError
from workbench.inference.chunks import upscale, upscale_stream
from workbench.inference.video import plan_memory
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import Upscaled, VideoSR, WindowOutput
from workbench.models.weights import load
from workbench.models.zoo import build
from workbench.onnx.compare import compare
from workbench.onnx.run import METADATA_KEY, OnnxMetadata, import_optional, open_exported
from workbench.tensors import to_float

pytest.importorskip("onnx", reason="onnx: pip install 'vsr-distillation-workbench[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime: pip install 'vsr-distillation-workbench[export]'")

from workbench.onnx.export import MAX_DIFFERENCE, calibration_clips, export


def shaken(name):
    """A small network all of whose layers have something to say."""
    torch.manual_seed(0)
    network = build(name, **TINY[name]).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return network


@pytest.fixture(scope="module")
def pair():
    """Three frames of a photographed clip, 22x18 in low resolution."""
    return make_pair(sample("carphone", frames=3).frames, scale=4)


@pytest.fixture(scope="module")
def low():
    return np.random.default_rng(0).integers(0, 256, (5, 21, 26, 3), np.uint8)


@pytest.fixture(scope="module")
def student(tmp_path_factory, pair):
    """The shipped student, exported."""
    network = load("pretrained:vespcn_std")
    return network, export(network, tmp_path_factory.mktemp("export") / "student.onnx", check=pair)


def test_an_exported_student_has_dynamic_axes(student):
    _, made = student
    assert made.free == ("batch", "time", "height", "width")
    assert made.difference < 1e-4
    assert abs(made.loss_db) < 1e-3
    assert made.operators["GridSample"] == 2  # the flow is applied twice
    assert made.operators["Conv"] == 10 + 9
    assert made.bytes == made.path.stat().st_size
    assert made.refused == ()


def test_an_exported_network_can_be_used_as_a_network(student, low):
    network, made = student
    exported = open_exported(made.path)
    assert (exported.scale, exported.num_frames, exported.temporal_radius, exported.border) == (4, 3, 1, "replicate")
    whole = upscale(network, low)
    for got in (upscale(exported, low), np.stack(list(upscale_stream(exported, iter(low), chunk_frames=2)))):
        assert np.abs(got.astype(int) - whole).max() <= 1
    batch = torch.cat([to_float(low), to_float(low[::-1])])
    with torch.inference_mode():
        assert torch.allclose(exported(batch).frames, network(batch).frames, atol=1e-4)


def test_the_graph_interface_is_the_documented_one(student, low):
    """With ONNX Runtime alone, without this package."""
    network, made = student
    session = import_optional("onnxruntime").InferenceSession(str(made.path), providers=["CPUExecutionProvider"])
    assert [given.name for given in session.get_inputs()] == ["clip", "windows"]
    clip = low.transpose(0, 3, 1, 2)[None].astype(np.float32) / 255
    windows = np.array([[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 4]], np.int64)
    (frames,) = session.run(["frames"], {"clip": clip, "windows": windows})
    with torch.inference_mode():
        wanted = network(to_float(low)).frames.numpy()
    assert frames.shape == wanted.shape == (1, 5, 3, 84, 104)
    assert np.abs(frames - wanted).max() < 1e-4


@pytest.mark.parametrize("name", ["bicubic", "vespcn_paper", "vsrnet_y", "tdan", "ltd", "fastdvdnet_vsr", "rsdn"])
def test_tiny_networks_of_every_kind_are_exported(name, tmp_path, pair):
    network = shaken(name)
    made = export(network, tmp_path / "network.onnx", check=pair, frames=4)
    assert made.difference <= MAX_DIFFERENCE
    assert {"height", "width"} <= set(made.free)
    assert made.metadata.graph == {"fastdvdnet_vsr": "window", "rsdn": "clip", "bicubic": "clip"}.get(name, "windows")
    if name == "rsdn":
        with pytest.raises(ShapeError, match="clip: want 4 frames, got 3"):
            open_exported(made.path)(torch.rand(1, 3, 3, 8, 8))


class Sorts(SlidingWindow):
    """Goes through an operator that ONNX does not know."""

    def __init__(self):
        super().__init__(scale=2, num_frames=3, border="replicate", skip="none")
        self.weight = nn.Parameter(torch.ones(1))

    def per_window(self, *pieces, return_features):
        enlarged = pieces[0][:, 1].repeat_interleave(2, -1).repeat_interleave(2, -2)
        return WindowOutput(self.weight * torch.special.bessel_j0(enlarged))


class Decides(VideoSR):
    """Negates images that are wide: a graph keeps what it did to the traced one."""

    def __init__(self):
        super().__init__(scale=2)

    def forward(self, clip, return_features=None):
        enlarged = nn.functional.interpolate(clip.flatten(0, 1), scale_factor=2.0).unflatten(0, clip.shape[:2])
        return Upscaled(1 - enlarged if clip.shape[-1] > 30 else enlarged)


def test_an_unsupported_operator_is_named(tmp_path):
    pair = make_pair(sample("carphone", frames=3).frames, scale=2)
    with pytest.raises(ConfigError, match=r"Sorts .*bessel_j0"):
        export(Sorts(), tmp_path / "a.onnx", check=pair)
    assert list(tmp_path.iterdir()) == []


def test_networks_that_branch_on_the_size_are_exported_for_one_size(tmp_path):
    pair = make_pair(sample("carphone", frames=3).frames[:, :, :50], scale=2)
    made = export(Decides(), tmp_path / "network.onnx", check=pair)
    assert "wrong by up to" in made.refused[0]
    assert "depends on values" in made.refused[0]
    assert made.free == ("batch", "time")
    assert made.metadata.size == (36, 25)
    exported = open_exported(made.path)
    clip = torch.rand(2, 4, 3, 36, 25)
    assert torch.allclose(exported(clip).frames, Decides()(clip).frames, atol=1e-6)
    with pytest.raises(ShapeError, match=r"clip: want 25x36, .*network\.onnx, got 40x40"):
        exported(torch.rand(1, 1, 3, 40, 40))
    smaller = export(Decides(), tmp_path / "smaller.onnx", check=pair, size=(20, 24))
    assert (smaller.metadata.size, smaller.refused) == ((20, 24), ())
    with pytest.raises(ConfigError, match="size: want at most 25x36"):
        export(Decides(), tmp_path / "larger.onnx", check=pair, size=(37, 24))


def test_a_memory_plan_for_onnx_raises(student):
    with pytest.raises(ConfigError, match=r"memory: .*ONNX Runtime.*chunk_frames and tile"):
        plan_memory(open_exported(student[1].path), 8, 8, 2**33)


def test_an_existing_file_is_not_overwritten(tmp_path, pair):
    (tmp_path / "a.onnx").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="exists already"):
        export(build("bicubic"), tmp_path / "a.onnx", check=pair)
    with pytest.raises(ConfigError, match=r"\.onnx"):
        export(build("bicubic"), tmp_path / "a.pt", check=pair)
    assert (tmp_path / "a.onnx").read_bytes() == b"mine"


def test_a_missing_module_error_contains_the_install_command(tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr("workbench.onnx.run.import_module", absent)
    with pytest.raises(ConfigError, match=r"onnx .*workbench\[export\]'"):
        export(build("bicubic"), tmp_path / "a.onnx")


@pytest.mark.parametrize(("precision", "most_db"), [("fp16", 0.01), ("int8", 1.0)])
def test_a_student_is_exported_in_lower_precisions(student, tmp_path, pair, low, precision, most_db):
    network, full = student
    made = export(network, tmp_path / "student.onnx", precision=precision, check=pair, calibration=[pair.low])
    assert made.metadata.precision == precision
    assert 0 < made.difference < 0.5
    assert made.difference > full.difference
    assert abs(made.loss_db) < most_db
    assert made.bytes < 0.75 * full.bytes
    if precision == "int8":
        assert made.operators["QuantizeLinear"] >= 9
    assert upscale(open_exported(made.path), low).shape == (5, 84, 104, 3)


def test_the_ranges_of_8_bit_layers_are_those_of_all_calibration_clips(student, tmp_path, pair):
    network, _ = student
    dark = pair.low // 16
    narrow = export(network, tmp_path / "dark.onnx", precision="int8", check=pair, calibration=[dark])
    wide = export(network, tmp_path / "both.onnx", precision="int8", check=pair, calibration=[dark, pair.low])
    assert wide.difference < 0.5 * narrow.difference  # values beyond the range of the dark clip are clipped


def test_a_graph_of_one_size_needs_calibration_clips_of_that_size(student, tmp_path, pair):
    """A given clip is never left out in silence; of the default, those that are large enough are used."""
    clips = [pair.low, pair.low[:, :16, :20]]
    with pytest.raises(ConfigError, match=r"calibration: want .*22x18.* got 20x16"):
        export(student[0], tmp_path / "a.onnx", precision="int8", check=pair, size=(18, 22), calibration=clips)


def test_default_calibration_clips_are_cut_to_a_size():
    assert [low.shape[1:3] for low in calibration_clips(4)] == [(90, 160), (90, 160), (34, 80), (34, 80), (18, 22)]
    assert [low.shape for low in calibration_clips(4, (32, 48))] == [(3, 32, 48, 3)] * 4


@pytest.mark.parametrize(("name", "precision"), [("edvr_tiny", "fp16"), ("edvr_tiny", "int8"), ("tdan", "int8")])
def test_deformable_convolutions_raise_in_lower_precisions(tmp_path, name, precision):
    with pytest.raises(ConfigError, match=f"{precision} .*deformable"):
        export(shaken(name), tmp_path / "a.onnx", precision=precision)


def test_files_without_metadata_raise(student, tmp_path):
    onnx, path = import_optional("onnx"), tmp_path / "other.onnx"
    with pytest.raises(WeightsError, match="no such file"):
        open_exported(path)
    path.write_bytes(b"no graph")
    with pytest.raises(WeightsError, match=r"other\.onnx: .*got a text file"):
        open_exported(path)
    model = onnx.load(str(student[1].path))
    del model.metadata_props[:]
    onnx.save(model, str(path))
    with pytest.raises(WeightsError, match="`workbench export`"):
        open_exported(path)
    for said in (
        "",
        "[]",
        "{}",
        '{"format": 1}',
        json.dumps(json.loads(student[1].metadata.to_json()) | {"scale": -1}),
    ):
        onnx.helper.set_model_props(model, {METADATA_KEY: said})
        onnx.save(model, str(path))
        with pytest.raises(WeightsError, match="damaged metadata"):
            open_exported(path)


def test_metadata_of_format_1_is_read(student):
    metadata = student[1].metadata
    stored = json.loads(metadata.to_json())
    stored |= {"format": 1, "reach": stored.pop("temporal_radius")}
    assert OnnxMetadata.parse(json.dumps(stored), Path("old.onnx")) == metadata


def test_distillation_changes_no_operator(student, tmp_path, pair):
    plain = export(load("pretrained:vespcn_plain"), tmp_path / "plain.onnx", check=pair)
    found = compare(plain.path, student[1].path, height=12, width=16, rounds=2)
    assert found.same_work
    assert found.differences == ()
    assert found.weight_bytes[0] == found.weight_bytes[1] > 0
    assert found.file_bytes[0] == found.file_bytes[1]
    assert plain.path.read_bytes() != student[1].path.read_bytes()
    assert all(seconds > 0 for seconds in found.seconds)


def test_compare_reports_other_widths_and_settings(student, tmp_path, pair):
    wider = export(build("vespcn_s", channels=48).eval(), tmp_path / "wider.onnx", check=pair)
    found = compare(student[1].path, wider.path, height=12, width=16, rounds=1)
    assert not found.same_work
    assert any("float[48" in difference for difference in found.differences)
    narrow, flat = (build("vsrnet_y", channels=4, hr_channels=4, num_frames=n).eval() for n in (3, 5))
    one = export(narrow, tmp_path / "one.onnx", check=pair)
    other = export(flat, tmp_path / "other.onnx", check=pair)
    assert "operators /" in compare(one.path, other.path, height=12, width=16, rounds=1).differences[0]
    with pytest.raises(ConfigError, match="rounds: want 1 or more, got 0"):
        compare(one.path, one.path, rounds=0)
