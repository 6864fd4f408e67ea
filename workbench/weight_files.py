"""Detection of files that have the name of weights and contain something else: a web page, a Git LFS pointer.

Only bytes are compared; nothing is unpickled, and torch is not needed.
"""

from __future__ import annotations

import codecs
import json
import zipfile
from pathlib import Path

from workbench.errors import WeightsError

DOWNLOAD = "download the file again"

ARCHIVES: dict[bytes, str] = {
    b"\x1f\x8b": "a gzip archive (.gz, .tar.gz, .tgz)",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
}
"""First bytes of archives in which weights are distributed."""

PICKLE = b"\x80"
"""First byte of a pickle: checkpoints that ``torch.save`` wrote before version 1.6."""

HEAD_BYTES = 1024


def check_weight_file(path: Path) -> None:
    """Refuse a file that cannot be weights, by its first bytes and its length, and name what it is.

    A file that passes may still be damaged, or belong to another network.

    Raises:
        WeightsError: the file is empty, cut off, a web page, a Git LFS pointer, a text file or an archive.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be opened ({error.strerror})") from error
    if found := _identify(path, head):
        raise WeightsError(f"{path}: want weights, got {found}")


def _identify(path: Path, head: bytes) -> str | None:
    """Return what a file is and what to do about it; None where it may be weights."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not head:
        return f"an empty file (0 bytes); {DOWNLOAD}"
    if not any(head):
        return f"a file that begins with {len(head)} zero bytes: an unfinished download; {DOWNLOAD}"
    if text.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer instead of the file; run `git lfs pull` where it came from, or " + DOWNLOAD
    if text[:1] == b"<" and _is_text(head):
        return f"a web page (HTML or XML), often an error or a login page of the site; {DOWNLOAD} in a browser"
    for magic, name in ARCHIVES.items():
        if head.startswith(magic):
            return f"{name}; unpack it, and name the weights file in it"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it, and name the weights file in it"
    if head.startswith(b"PK\x03\x04"):
        return _identify_zip(path)
    if _is_safetensors(head):
        return _measure_safetensors(path, head)
    if _is_text(head) and not head.startswith(PICKLE):
        first = text.decode(errors="replace").splitlines()[0][:60]
        return f"a text file that begins with {first!r}; {DOWNLOAD}"
    return None


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\r\n\t\f\ufeff" for letter in text)


def _identify_zip(path: Path) -> str | None:
    """Return what a zip file is; None for one by ``torch.save``, whose pickle is called ``data.pkl``."""
    if not zipfile.is_zipfile(path):
        return f"a cut-off zip file of {path.stat().st_size:,} bytes: its end is missing; {DOWNLOAD}"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return f"a damaged zip file; {DOWNLOAD}"
    if any(name.endswith("data.pkl") for name in names):
        return None
    return f"a zip archive without a checkpoint ({', '.join(names[:3])}); unpack it, and name the weights file in it"


def _is_safetensors(head: bytes) -> bool:
    return head[8:10] in (b'{"', b"{}")


def _measure_safetensors(path: Path, head: bytes) -> str | None:
    """Compare a file with its header: eight bytes for the length of the header, the header in JSON, the tensors."""
    there, header_bytes = path.stat().st_size, int.from_bytes(head[:8], "little")
    wanted = 8 + header_bytes
    if wanted <= there:
        with path.open("rb") as file:
            header = file.read(wanted)[8:]
        try:
            tensors = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
            wanted += max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return f"a safetensors file with a damaged header; {DOWNLOAD}"
    if wanted > there:
        return f"a cut-off safetensors file: {there:,} of at least {wanted:,} bytes; {DOWNLOAD}"
    return None
