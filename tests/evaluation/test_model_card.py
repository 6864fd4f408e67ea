"""Model cards, read by a YAML parser."""

import yaml

from workbench.evaluation.model_card import model_card
from workbench.models.zoo import build


def metadata(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_a_network_of_single_images_maps_images_to_images():
    assert metadata(model_card(build("bicubic"), "one"))["pipeline_tag"] == "image-to-image"
    assert metadata(model_card(build("vespcn_s"), "one"))["pipeline_tag"] == "video-to-video"


def test_scores_are_metrics_and_results():
    read = metadata(model_card(build("bicubic"), "one", scores={"psnr_y_db": 29.123, "ssim_y": 0.76543}))
    assert read["metrics"] == ["psnr", "ssim"]
    values = [metric["value"] for metric in read["model-index"][0]["results"][0]["metrics"]]
    assert sorted(values) == [0.7654, 29.12]


def test_a_text_with_metadata_is_kept_and_one_without_gets_them():
    own = "---\nlicense: mit\n---\n\nMine.\n"
    assert model_card(build("bicubic"), "one", own) == own
    card = model_card(build("bicubic"), "one", "Mine.\n", license="mit")
    assert card.endswith("---\n\nMine.\n")
    assert metadata(card)["license"] == "mit"
