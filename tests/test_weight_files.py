"""Files called weights that are something else: each is recognized wherever weights are opened."""

import io
import pickle
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from workbench.errors import WeightsError
from workbench.evaluation.methods import load_method
from workbench.models.conversion import load_converted
from workbench.models.weights import read_tensors
from workbench.weight_files import check_weight_file

PAGE = b"<!DOCTYPE html><html><title>Quota exceeded</title></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 19332096\n"


def as_saved(legacy=False):
    file = io.BytesIO()
    torch.save({"a.weight": torch.ones(300)}, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def packed(kind):
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("models/net_g.pth", as_saved())
    else:
        with tarfile.open(fileobj=file, mode=kind) as archive:
            member = tarfile.TarInfo("net_g.pth")
            member.size = len(as_saved())
            archive.addfile(member, io.BytesIO(as_saved()))
    return file.getvalue()


SAFE = safetensors_bytes({"a.weight": torch.ones(300)})

STRANGE = {
    "page": (PAGE, "web page"),
    "page after a mark and blanks": (b"\xef\xbb\xbf\r\n  <html lang='x'>" + PAGE * 40, "web page"),
    "pointer": (POINTER, "Git LFS pointer"),
    "empty": (b"", r"empty file \(0 bytes\)"),
    "zeros": (bytes(5000), "zero bytes"),
    "cut zip": (b"PK\x03\x04" + bytes(200), "cut-off zip file"),
    "cut checkpoint": (as_saved()[:-30], "cut-off zip file"),
    "zip around it": (packed("zip"), r"zip archive without a checkpoint \(models/net_g.pth\)"),
    "tar": (packed("w:"), "tar archive"),
    "tar.gz": (packed("w:gz"), "gzip archive"),
    "tar.xz": (packed("w:xz"), "xz archive"),
    "cut safetensors": (SAFE[:-1], rf"cut-off safetensors file: {len(SAFE) - 1:,} of at least {len(SAFE):,} bytes"),
    "cut in the header": (SAFE[:40], "cut-off safetensors file: 40 of at least"),
    "words": (b"404: Not Found", "'404: Not Found'"),
    "message": (b'{"message": "Bad credentials"}', "Bad credentials"),
}


@pytest.mark.parametrize(("content", "what"), STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_errors_name_the_type_of_a_file_that_is_no_weights(content, what, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    for opened in (read_tensors, load_converted, lambda path: load_method(str(path), runs=[])):
        with pytest.raises(WeightsError, match=what) as refused:
            opened(path)
        assert str(path) in str(refused.value)
        assert not any(word in str(refused.value) for word in ("weights_only", "trust", "load it yourself"))


@pytest.mark.parametrize("content", [as_saved(), as_saved(legacy=True), SAFE], ids=["zip", "pickle", "safetensors"])
def test_weights_files_are_accepted(content, tmp_path):
    (tmp_path / "w").write_bytes(content)
    check_weight_file(tmp_path / "w")


@pytest.mark.parametrize(
    ("content", "what"),
    [(as_saved(legacy=True)[:-700], "cut off"), (pickle.dumps({"a": 1.0}, 2)[:-3], "damaged|cut off")],
    ids=["cut in its tensors", "cut in its pickle"],
)
def test_a_truncated_pickle(content, what, tmp_path):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=what):
        load_converted(tmp_path / "w.pth")
