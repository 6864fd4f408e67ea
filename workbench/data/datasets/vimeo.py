"""Vimeo-90K septuplets: 91,701 clips of seven frames, named by lists (Xue et al., TOFlow, IJCV 2019)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from workbench.amounts import list_some
from workbench.data.datasets.clip_set import ClipEntry, ClipSet, FrameFolder
from workbench.data.datasets.folders import find_low, missing_folders, with_low
from workbench.data.video.frame_folder import header_size
from workbench.errors import ConfigError, DataError, unknown_name

STEMS = tuple(f"im{number}" for number in range(1, 8))
"""File names of the frames of a clip; ``im4`` is the center frame."""

LEFT_OUT = (
    "00014/0030", "00014/0043", "00036/0974", "00046/0113", "00047/0865", "00047/0866", "00048/0034", "00048/0137",
    "00088/0794",
)  # fmt: skip
"""Nine clips of the test list that are in no group by speed."""


@dataclass(frozen=True, kw_only=True)
class ExpectedLists:
    """Expected content of the lists of a set; any content is valid where nothing is given.

    Attributes:
        title: displayed name; that of the folder where it is empty.
        clips: number of clips of each list.
        groups: number of clips of each group by speed.
        size: width and height of the frames.
        left_out: clips of the test list that are in no group.
    """

    title: str = ""
    clips: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    left_out: tuple[str, ...] = ()


VIMEO90K = ExpectedLists(
    title="Vimeo-90K",
    clips={"train": 64612, "test": 7824},
    groups={"slow": 1613, "medium": 4977, "fast": 1225},
    size=(448, 256),
    left_out=LEFT_OUT,
)
"""Complete septuplet set; the groups by speed are of the test list, and leave nine clips out."""


def vimeo90k(
    folder: str | os.PathLike[str],
    *,
    scale: int = 4,
    low: str | None = None,
    split: Literal["train", "test"] | None = None,
    groups: Sequence[str] = (),
    targets: Literal["middle", "all"] = "middle",
    whole: ExpectedLists = VIMEO90K,
) -> ClipSet:
    """Open Vimeo-90K in its own layout or in mmagic's.

    ::

        vimeo_septuplet/sequences/00001/0001/im1.png ... im7.png     sep_trainlist.txt  sep_testlist.txt
        vimeo90k/GT/00001/0001/...   BIx4/...   BDx4/...             meta_info_Vimeo90K_train_GT.txt ...

    Lines of a list are ``00001/0001``, or BasicSR's ``00001/0001 7 (256,448,3)``. Every clip of the list must have its
    folder. The names and sizes of its images are checked when it is read, because listing half a million images would
    take minutes.

    Args:
        folder: folder of the lists.
        scale: high-resolution pixels per low-resolution pixel.
        low: folder of the low resolution: ``vimeo_septuplet_matlabLRx4`` next to the folder (BasicSR), ``BIx4`` in it
            (mmagic).
        split: ``train`` or ``test``.
        groups: groups by speed to open: slow, medium, fast. They need the lists of BasicSR
            (``meta_info_Vimeo90K_test_slow_GT.txt`` ...) or RBPN (``slow_testset.txt`` ...) in the folder. Where these
            lists exist, every clip of the test split has its group.
        targets: ``middle``: only im4 is scored, as in published results; ``all``: every frame.
        whole: expected content of the lists.

    Raises:
        ConfigError: there is no split, or groups are given for the train split.
        UnknownNameError: there is no such group.
        DataError: a list is missing, short or unreadable, or its clips do not exist.
    """
    folder = Path(folder)
    if split not in ("train", "test"):
        raise ConfigError(f"{folder}: split: want 'train' or 'test', got {split!r}")
    if groups and split == "train":
        raise ConfigError("groups: want none for the train split, since only the test list has groups; leave them out")
    lists = (f"sep_{split}list.txt", f"meta_info_Vimeo90K_{split}_GT.txt")
    names = _read_list(folder, lists, whole.clips.get(split))
    group_of = _groups(folder, names, groups, whole) if split == "test" else {}
    names = [name for name in names if not groups or group_of.get(name) in groups]
    title = f"{whole.title or folder.resolve().name} {split}" + (f" ({', '.join(groups)})" if groups else "")
    if targets not in ("middle", "all"):
        raise ConfigError(f"targets: want 'middle' or 'all', got {targets!r}")
    root = folder / "GT" if (folder / "GT").is_dir() else folder / "sequences"
    if missing := missing_folders(names, root):
        raise DataError(f"{root}: {len(missing)} of {len(names)} clips of the list are missing: {list_some(missing)}")
    size = header_size(FrameFolder(root / names[0], STEMS).files()[0])
    if whole.size not in (None, size):
        raise DataError(
            f"{root / names[0]}: want images of {whole.size[0]}x{whole.size[1]}, got {size[0]}x{size[1]}; "
            "name the high-resolution septuplets"
        )
    counting = tuple(range(len(STEMS))) if targets == "all" else (len(STEMS) // 2,)
    entries = tuple(
        ClipEntry(
            name=name,
            frames=len(STEMS),
            size=size,
            scale=scale,
            targets=counting,
            source=FrameFolder(root / name, STEMS),
            group=group_of.get(name, ""),
        )
        for name in names
    )
    found = ClipSet(name=title, scale=scale, degradation=None, clips=entries)
    if low is None:
        return found
    low_root, places = find_low(folder, low, {name: root / name for name in names})
    if missing := missing_folders(names, low_root):
        raise DataError(f"{low_root}: {len(missing)} of {len(names)} clips are missing: {list_some(missing)}")
    return with_low(found, low_root, places, lazily=True)


septuplets = partial(vimeo90k, whole=ExpectedLists())
"""Like :func:`vimeo90k` for any set in this layout, such as prepared footage; all clips have the size of the first."""


def _read_list(folder: Path, files: Sequence[str], count: int | None) -> list[str]:
    path = next((folder / file for file in files if (folder / file).is_file()), None)
    if path is None:
        raise DataError(f"{folder}: want a list {' or '.join(files)} in the folder of the set, got none")
    names: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        name = re.fullmatch(r"\s*(\d{5}/\d{4})(?:\s+7\s+\(\d+,\s*\d+,\s*3\))?\s*", line)
        if name is None:
            raise DataError(f"{path}: line {number} is {line[:60]!r}; want 00001/0001, or 00001/0001 7 (256,448,3)")
        names.append(name[1])
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = [name for name in names if name in seen or seen.add(name)]
        raise DataError(f"{path}: names {list_some(twice)} twice")
    if not names:
        raise DataError(f"{path}: names no clips")
    if count not in (None, len(names)):
        raise DataError(f"{path}: want {count} clips, got {len(names)}; use the list that belongs to the set")
    return names


def _groups(folder: Path, names: Sequence[str], wanted: Sequence[str], whole: ExpectedLists) -> dict[str, str]:
    """Return the group of each clip, for the groups that have a list; the wanted groups must have one."""
    for group in wanted:
        if group not in whole.groups:
            raise unknown_name("group of Vimeo-90K", group, whole.groups)
    group_of: dict[str, str] = {}
    for group, count in whole.groups.items():
        files = (f"meta_info_Vimeo90K_test_{group}_GT.txt", f"{group}_testset.txt")
        if group not in wanted and not any((folder / file).is_file() for file in files):
            continue
        members = _read_list(folder, files, count)
        strange = set(members) & group_of.keys() | set(members) - set(names) | set(members) & set(whole.left_out)
        if strange:
            raise DataError(
                f"{folder}: the list of {group} clips names {list_some(sorted(strange))}, which are in another group, "
                "not in the test list, or among the nine that are in none"
            )
        group_of |= dict.fromkeys(members, group)
    return group_of
