"""Settings for tiny frames, and the contents of a prepared folder."""

from workbench.data.preparation.manifest import PrepareSettings

RAW = PrepareSettings(downscale="1", validation=("cliff",))


FORMS = ("arrays", "folders", "shards")


def small(form, **changes):
    """Settings for tiny frames: whole ones for arrays, one tile of 32x24 in the middle otherwise."""
    crop = {} if form == "arrays" else {"tile_size": "48x40"}
    return PrepareSettings(**{"format": form, "downscale": "1", "validation": ("cliff",), **crop, **changes})


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
