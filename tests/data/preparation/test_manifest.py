"""Settings and manifest of a prepared folder: contents, errors, format 1."""

import json
import shutil

import pytest

from tests.data.preparation.prepared import FORMS, content, small
from tests.footage import HEIGHT, WIDTH
from workbench.data.preparation.manifest import MANIFEST, PrepareSettings, inside, read_manifest
from workbench.data.preparation.prepare import prepare
from workbench.errors import ConfigError, DataError


@pytest.mark.parametrize("form", FORMS)
def test_the_manifest_accounts_for_every_frame_and_file(whole, form):
    manifest = read_manifest(whole / form)
    beach = next(source for source in manifest.sources if source.name == "beach")
    assert dict(beach.counts) == {
        "frames": 24, "cuts": 1, "gaps": 0, "black": 0, "repeated": 0, "still": 0, "rest": 3, "still_tiles": 0
    }  # fmt: skip
    assert (beach.septuplets, beach.size, beach.split) == (3, (WIDTH, HEIGHT), "train")
    assert (manifest.septuplets("train"), manifest.septuplets("validation")) == (5, 1)
    named = set(manifest.files) | {path for source in manifest.sources for path in source.files}
    assert named == content(whole / form).keys() - {MANIFEST}
    assert str(whole) not in (whole / form / MANIFEST).read_text()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"format": "lmdb"}, "format: want one of arrays, folders, shards, got 'lmdb'"),
        ({"downscale": "4"}, "downscale: want one of auto, 1, 2, 3"),
        ({"scale": 5}, "scale: want 2, 3 or 4, got 5"),
        ({"degradation": "bd_tecogan", "scale": 2}, "no rule for x2"),
        ({"stride": 3}, "stride: want 1 or more, and 7 for arrays"),
        ({"tile_size": "448"}, "tile_size: want WIDTHxHEIGHT, for example 448x256, or whole; got '448'"),
        ({"tile_size": "448x254"}, "tile_size: .*got 448x254; take 448x252"),
        ({"validation_share": 1}, "validation_share: want 0 or more and less than 1"),
    ],
)
def test_invalid_settings_raise(settings, says):
    with pytest.raises(ConfigError, match=says):
        PrepareSettings(**settings)


def test_the_tile_size_of_vimeo_is_reduced_to_multiples_of_three():
    assert PrepareSettings(format="folders").tile_shape == (448, 256)
    assert PrepareSettings(format="folders", scale=3).tile_shape == (447, 255)
    assert PrepareSettings().tile_shape is None


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "high/../../x.npy", "c:\\x.npy", "..\\x", ""])
def test_paths_outside_of_the_folder_raise(path):
    with pytest.raises(DataError, match="leads out of the folder"):
        inside(path)


def test_invalid_manifests_raise(whole, tmp_path):
    said = json.loads((whole / "arrays" / MANIFEST).read_text())

    def refused(change, says):
        other = json.loads(json.dumps(said))
        change(other)
        (tmp_path / MANIFEST).write_text(json.dumps(other))
        with pytest.raises(DataError, match=says):
            read_manifest(tmp_path)

    refused(lambda m: m["sources"][0]["chunks"][0].update(high="../../secret.npy"), "leads out of the folder")
    refused(lambda m: m["sources"][0]["files"].update({"/x": [1, "0"]}), "leads out of the folder")
    refused(lambda m: m["sources"][0].update(split="test"), "split: want train or validation, got .test.")
    refused(lambda m: m.update(format=3), "want format 1 or 2, got 3")
    refused(lambda m: m.pop("sources"), "cannot be read")
    refused(lambda m: m["settings"].update(scale=9), "scale: want 2, 3 or 4")
    (tmp_path / MANIFEST).write_text("[1, 2")
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(DataError, match=r"manifest.json"):
        read_manifest(tmp_path)


def as_format_1(saved):
    """Return a manifest with the names of format 1."""
    old = json.loads(json.dumps(saved)) | {"format": 1}
    for new, name in (("format", "form"), ("downscale", "shrink"), ("tile_size", "crop")):
        old["settings"][name] = old["settings"].pop(new)
    for source in old["sources"]:
        source["shrink"], source["pieces"] = source.pop("downscale"), source.pop("chunks")
    return old


@pytest.mark.parametrize("form", FORMS)
def test_a_manifest_of_format_1_is_read(whole, tmp_path, form):
    saved = json.loads((whole / form / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(as_format_1(saved)))
    assert read_manifest(tmp_path) == read_manifest(whole / form)


def test_a_folder_of_format_1_is_continued(shots, whole, tmp_path):
    shutil.copytree(whole / "arrays", tmp_path / "set")
    saved = json.loads((tmp_path / "set" / MANIFEST).read_text())
    (tmp_path / "set" / MANIFEST).write_text(json.dumps(as_format_1(saved)))
    assert prepare([shots], tmp_path / "set", small("arrays")) == read_manifest(whole / "arrays")
