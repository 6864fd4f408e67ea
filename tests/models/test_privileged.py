"""PISR's teacher: what its encoder makes, what its decoder is handed, and everything that it must not be used for."""

import numpy as np
import pytest
import torch

from tests.models.tiny import KINDS, TINY
from workbench.distill.objective import Objective
from workbench.errors import ConfigError, ShapeError, UnknownNameError, WeightsError
from workbench.evaluation.evaluate import evaluate
from workbench.evaluation.methods import load_method
from workbench.inference.chunks import upscale, upscale_stream
from workbench.models.cost import layers
from workbench.models.privileged import Encoder, Privileged, imitation
from workbench.models.video_sr import Upscaled, count_parameters
from workbench.models.weights import load, load_into, locate, save, save_tensors
from workbench.models.zoo import NETWORKS, build, takes_skip

DECODERS = sorted(set(KINDS) - {"bicubic", "fastdvdnet"})
"""Every network of the zoo that learns and enlarges."""


def clip(frames=2, height=32, width=48, seed=1):
    """Smooth images: noise has no flow."""
    coarse = torch.rand(1, 3, frames + 2, 5, 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (frames, height, width), mode="trilinear", align_corners=True)
    return smooth.transpose(1, 2).contiguous()


def privileged(name="vespcn_s", **settings):
    torch.manual_seed(0)
    network = build(f"privileged:{name}", **(TINY[name] | settings)).eval()
    with torch.no_grad():
        for parameter in network.decoder.parameters():  # many a last layer begins silent
            area = parameter[0, 0].numel() if parameter.ndim > 2 else 1
            parameter.add_(torch.randn_like(parameter) * min(0.05, 0.45 / area))
    return network


@pytest.fixture
def file(tmp_path):
    save(privileged(), tmp_path / "truth.safetensors")
    return tmp_path / "truth.safetensors"


# -- the encoder ----------------------------------------------------------------------------------------------------
def pick_every(encoder, scale):
    """Weights by hand: every layer hands the three colors on, so the second one's stride takes every s-th pixel."""
    convs = [layer for layer in encoder.layers if isinstance(layer, torch.nn.Conv2d)]
    assert [conv.stride[0] for conv in convs] == [1, scale, 1, 1]
    with torch.no_grad():
        for conv in convs:
            conv.weight.zero_()
            conv.bias.zero_()
            center = conv.kernel_size[0] // 2
            for color in range(3):
                conv.weight[color, color, center, center] = 1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_encoder_by_hand(scale):
    encoder = Encoder(scale=scale)
    pick_every(encoder, scale)
    high = torch.rand(2, 3, 12, 24)
    assert torch.equal(encoder(high), high[..., ::scale, ::scale])


def test_the_encoder_is_the_published_one():
    """5x5 to 56, 5x5 to 56, 3x3 to 12, 3x3 to the colors; biases; a slope for each of three activations."""
    wanted = 3 * 25 * 56 + 56 + 56 * 25 * 56 + 56 + 56 * 9 * 12 + 12 + 12 * 9 * 3 + 3 + 3
    assert {count_parameters(Encoder(scale=scale)) for scale in (2, 3, 4)} == {wanted} == {89_102}


@torch.inference_mode()
def test_the_encoder_works_frame_by_frame():
    network, high = privileged("basicvsr"), clip(frames=6)
    whole = network.encode(high)
    for number in range(6):
        assert torch.allclose(whole[:, number], network.encode(high[:, number : number + 1])[:, 0], atol=1e-6)


def test_outputs_with_and_without_gradient_are_equal():
    network, high = privileged(), clip(frames=6)  # more than one pass
    with torch.no_grad():
        without = network(high)
    assert torch.allclose(network(high).encoded, without.encoded, atol=1e-6)
    assert torch.allclose(network(high).frames, without.frames, atol=1e-5)


@torch.inference_mode()
def test_bf16_outputs_are_close():
    network, high = privileged(skip="bicubic"), clip()
    exact = network(high)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(high)
    for ours, theirs in ((rough.encoded, exact.encoded), (rough.frames, exact.frames)):
        assert ours.dtype == torch.float32
        assert (ours - theirs).square().mean().sqrt() < 0.08 * theirs.std()


def test_imitation_by_hand():
    encoded, low = torch.tensor([0.5, 0.25, 1.0]), torch.tensor([0.0, 0.75, 1.0])
    assert imitation(encoded.view(1, 1, 3, 1, 1), low.view(1, 1, 3, 1, 1)).item() == pytest.approx(1 / 3)
    with pytest.raises(ShapeError, match=r"\(1, 1, 3, 2, 2\), got \(1, 1, 3, 1, 1\)"):
        imitation(torch.zeros(1, 1, 3, 1, 1), torch.zeros(1, 1, 3, 2, 2))


# -- the decoder ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", DECODERS)
def test_every_student_can_be_the_decoder(name):
    """It enlarges what the encoder makes; every weight of both learns; chunks of a clip equal the whole clip."""
    network, high = privileged(name), clip(frames=3)
    return_features = "hr" if network.feature_channels else None
    upscaled = network(high, return_features=return_features)
    assert upscaled.encoded.shape == (1, 3, 3, 8, 12)
    assert upscaled.frames.shape == high.shape
    alone = network.decoder(upscaled.encoded.detach(), return_features=return_features)
    assert torch.equal(upscaled.frames, alone.frames)
    if return_features:
        assert torch.equal(upscaled.features, alone.features)
        assert upscaled.features.shape == (1, 3, network.feature_channels, 32, 48)

    (upscaled.frames - high).abs().mean().backward()
    silent = {key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()}
    assert silent == set()

    with torch.inference_mode():
        parts = list(network.chunks(high, frames=2, return_features=return_features))
    assert [part.frames.shape[1] for part in parts] == [2, 1]
    assert torch.allclose(torch.cat([part.frames for part in parts], 1), upscaled.frames, atol=1e-4)
    assert torch.allclose(torch.cat([part.encoded for part in parts], 1), upscaled.encoded, atol=1e-6)


def test_a_large_output_of_the_encoder_does_not_raise():
    """Before it has learned, it may make anything: that is not what the check at the door is for."""
    network = privileged(skip="bicubic")
    with torch.no_grad():
        network.encoder.layers[-1].bias.fill_(100.0)
        assert network(clip()).frames.max() > 50
        with pytest.raises(ShapeError, match=r"want RGB in \[0, 1\]"):
            network(clip() * 255)


def test_clips_that_are_no_high_resolution_raise():
    with pytest.raises(ShapeError, match=r"multiples of 4.* got 49x32"):
        privileged()(torch.rand(1, 2, 3, 32, 49))
    with pytest.raises(ShapeError, match=r"want \(B, T, 3, H, W\)"):
        privileged()(torch.rand(1, 2, 1, 32, 48))


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("bicubic", "bicubic has no parameters"),
        ("fastdvdnet", "fastdvdnet restores at the same size"),
        ("privileged:vespcn_s", "privileged:vespcn_s is privileged itself"),
    ],
)
def test_networks_that_cannot_be_a_decoder_raise(name, pattern):
    with pytest.raises(ConfigError, match=f"decoder: .*{pattern}"):
        build(f"privileged:{name}")


def test_an_adapted_network_can_be_the_decoder(monkeypatch):
    decoder = build("vespcn_s", scale=2)
    decoder.recipe = {}
    network = Privileged(decoder)
    assert network(torch.rand(1, 1, 3, 8, 8)).frames.shape == (1, 1, 3, 8, 8)
    assert network.recipe == {}


def test_names_and_settings_are_those_of_the_decoder():
    network = build("privileged:vespcn_s", scale=3, skip="bicubic")
    assert (network.scale, network.decoder.skip, network.num_frames) == (3, "bicubic", 3)
    assert network.recipe == build("vespcn_s", scale=3, skip="bicubic").recipe | {"name": "privileged:vespcn_s"}
    assert takes_skip("privileged:vespcn_s")
    assert not takes_skip("privileged:toflow")
    with pytest.raises(UnknownNameError, match=r"'vespcm'.*'vespcn'"):
        build("privileged:vespcm")
    with pytest.raises(ConfigError, match=r"vespcn: .*'width'"):
        build("privileged:vespcn", width=3)
    with pytest.raises(ConfigError, match=r"privileged:vespcn_paper .*features"):
        build("privileged:vespcn_paper")(clip(), return_features="hr")


def test_its_info_names_both_papers():
    about = build("privileged:vespcn_s").info
    assert about.paper.startswith("Lee et al.")
    assert "Caballero" in about.paper
    assert (about.year, about.role) == (2020, "teacher")


def test_its_cost_is_that_of_a_high_resolution_frame():
    """The products of the encoder by hand: four convolutions, the first at high resolution."""
    whole, encoder, *_ = layers(build("privileged:vespcn_s"), height=8, width=12)
    assert whole.shape == (1, 3, 3, 32, 48)
    assert (encoder.name, encoder.shape) == ("encoder", (3, 3, 8, 12))
    small = 56 * 56 * 25 + 56 * 12 * 9 + 12 * 3 * 9
    assert encoder.macs == 3 * (32 * 48 * 3 * 56 * 25 + 8 * 12 * small)


# -- stage 1: what it learns from ------------------------------------------------------------------------------------
def test_the_two_terms_of_stage_1_by_hand():
    """Reconstruction sqrt(0.3^2 + 0.4^2) = 0.5 with eps 0.4; imitation |0.7 - 0.2| = 0.5, times its weight."""
    objective = Objective(eps=0.4, imitation_weight=1e-4)
    low, high = torch.full((1, 1, 3, 2, 2), 0.2), torch.full((1, 1, 3, 8, 8), 0.6)
    made = Upscaled(frames=torch.full((1, 1, 3, 8, 8), 0.9), encoded=torch.full((1, 1, 3, 2, 2), 0.7))
    terms, measures = objective.compute_terms(made, high, low=low)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"reconstruction": 0.5, "imitation": 0.5}
    )
    assert objective.weights_at(1) == {"reconstruction": 1.0, "imitation": 1e-4}
    assert measures == {}
    assert not objective.distills


def test_imitation_has_gradients_for_the_encoder_only():
    network, high = privileged(), clip()
    low = torch.rand(1, 2, 3, 8, 12)
    imitation(network(high).encoded, low).backward()
    moved = {key.partition(".")[0] for key, value in network.named_parameters() if value.grad is not None}
    assert moved == {"encoder"}
    network.zero_grad()
    terms, _ = Objective().compute_terms(network(high), high)
    assert set(terms) == {"reconstruction"}
    terms["reconstruction"].backward()
    moved = {key.partition(".")[0] for key, value in network.named_parameters() if value.grad is not None}
    assert moved == {"encoder", "decoder"}


def test_the_imitation_loss_needs_a_privileged_network():
    made = Upscaled(frames=torch.zeros(1, 1, 3, 8, 8))
    with pytest.raises(ConfigError, match="imitation_weight"):
        Objective(imitation_weight=1e-4).compute_terms(made, made.frames, low=torch.zeros(1, 1, 3, 2, 2))


# -- on disk --------------------------------------------------------------------------------------------------------
def test_a_loaded_network_is_equal(file):
    again = load(file)
    assert again.recipe == privileged().recipe
    with torch.inference_mode():
        assert torch.equal(again(clip()).frames, privileged()(clip()).frames)
    other = build("privileged:vespcn_s", **TINY["vespcn_s"])
    load_into(other, file)
    assert torch.equal(other.encoder.layers[0].weight, again.encoder.layers[0].weight)


def test_a_student_can_be_initialized_from_the_decoder(file):
    low, wanted = torch.rand(1, 3, 3, 8, 8), privileged().decoder
    student = build("vespcn_s", **TINY["vespcn_s"])
    load_into(student, f"decoder:{file}")
    with torch.no_grad():
        assert torch.equal(student(low).frames, wanted(low).frames)
    alone = load(f"decoder:{file}")
    assert alone.recipe == student.recipe
    with torch.no_grad():
        assert torch.equal(alone(low).frames, wanted(low).frames)
    assert locate(f"decoder:{file}") == file


def test_a_decoder_of_tensors_without_a_recipe_raises(tmp_path):
    """Such as the states of a run hold."""
    save_tensors(tmp_path / "state.safetensors", privileged().state_dict())
    student = build("vespcn_s", **TINY["vespcn_s"])
    load_into(student, f"decoder:{tmp_path / 'state.safetensors'}")
    assert torch.equal(student.exit.weight, privileged().decoder.exit.weight)
    save_tensors(tmp_path / "plain.safetensors", student.state_dict())
    with pytest.raises(WeightsError, match=r"plain.safetensors: no decoder"):
        load_into(student, f"decoder:{tmp_path / 'plain.safetensors'}")


def test_weights_of_other_networks_raise(file, tmp_path):
    student = build("vespcn_s", **TINY["vespcn_s"])
    with pytest.raises(WeightsError, match="vespcn_s, got privileged:vespcn_s; `decoder:"):
        load_into(student, str(file))
    with pytest.raises(WeightsError, match=r"vespcn, got privileged:vespcn_s$"):
        load_into(build("vespcn"), file)
    with pytest.raises(WeightsError, match=r"vespcn, got vespcn_s$"):
        load_into(build("vespcn"), f"decoder:{file}")
    with pytest.raises(WeightsError, match=r"skip 'none', .*'bicubic'"):
        load_into(build("vespcn_s", **TINY["vespcn_s"], skip="bicubic"), f"decoder:{file}")
    save(student, tmp_path / "student.safetensors")
    with pytest.raises(WeightsError, match="privileged teacher, got vespcn_s"):
        load_into(student, f"decoder:{tmp_path / 'student.safetensors'}")
    with pytest.raises(WeightsError, match="privileged:vespcn_s, got vespcn_s"):
        load_into(privileged(), tmp_path / "student.safetensors")


# -- no upscaler ----------------------------------------------------------------------------------------------------

NO_UPSCALER = "privileged:vespcn_s is a privileged teacher"


def test_upscaling_with_a_privileged_teacher_raises(file):
    low = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ConfigError, match=NO_UPSCALER):
        upscale(privileged(), low)
    with pytest.raises(ConfigError, match=NO_UPSCALER):
        next(upscale_stream(privileged(), iter(low)))
    with pytest.raises(ConfigError, match=NO_UPSCALER):
        evaluate(privileged(), "", "held_out")
    for name in (str(file), "privileged:vespcn_s"):
        with pytest.raises(ConfigError, match=NO_UPSCALER):
            load_method(name)


def test_privileged_teachers_are_in_no_list_of_networks():
    """Lists are of upscalers; the prefix makes a teacher of any of them."""
    assert not [name for name in NETWORKS if "privileged" in name or NETWORKS[name] is Privileged]
    assert not [name for name in DECODERS if build(name, **TINY[name]).privileged]
