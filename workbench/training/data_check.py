"""Checksums of the data of a run, in ``run.json``: a run is resumed on the data that it began with."""

from __future__ import annotations

import logging
from typing import Any

from workbench.aliases import setting_name
from workbench.config import RunConfig
from workbench.data.sampling.checksums import DataChecksum, checksum_clip, checksum_stills
from workbench.errors import DataError, FolderError
from workbench.runs import Run, update_record

logger = logging.getLogger(__name__)

Checksums = dict[str, DataChecksum]


def data_checksums(config: RunConfig) -> Checksums:
    """Return the checksums of the training data and the validation clip, by the setting that names each."""
    clips = config.data.clips if config.data.uses_video else ()
    named = {f"data.clips[{number}]": checksum_clip(spec) for number, spec in enumerate(clips)}
    if config.data.uses_stills:
        named["data.stills"] = checksum_stills(config.data.stills)
    return named | {"data.validation_clip": checksum_clip(config.data.validation_clip)}


def recorded_checksums(run: Run) -> Checksums | None:
    """Return the checksums in ``run.json``; None where an earlier version wrote it without any.

    Raises:
        FolderError, DataError: they are damaged.
    """
    saved = run.record().get("data")
    if saved is None:
        return None
    if not isinstance(saved, dict):
        raise FolderError(f"{run.folder / 'run.json'}: data: want checksums by setting, got {type(saved).__name__}")
    return {setting_name(name): DataChecksum.from_dict(checksum) for name, checksum in saved.items()}


def check_data(run: Run, config: RunConfig) -> None:
    """Check that the data of a run has its recorded content; path and name do not matter.

    A run without checksums continues, with a warning.

    Args:
        run: its ``run.json`` contains the checksums.
        config: names the present data.

    Raises:
        DataError: a clip has other content.
    """
    wanted = recorded_checksums(run)
    if wanted is None:
        logger.warning(
            "%s: run.json has no checksums of its data (an earlier version wrote it), so whether the data is still the "
            "same could not be checked", run.name,
        )  # fmt: skip
        return
    found = data_checksums(config)
    for name in sorted(wanted.keys() | found.keys()):
        before, now = wanted.get(name), found.get(name)
        if before is None or now is None or now != before:
            path = now.clip if now is not None else "nothing"
            raise DataError(
                f"{name}: {run.name} began with other data: want {before or 'nothing'}, got {now or 'nothing'} "
                f"({path}). Put the data back, or name its new place (--{name.partition('[')[0]}); to continue with "
                "other data: --other-data"
            )


def rename_data(run: Run, config: RunConfig, *, other: bool = False) -> None:
    """Write new names of a run's data, or other data, into its ``run.json``.

    Args:
        run: without a worker.
        config: the settings of the run but for ``data.clips``, ``data.stills``, ``data.validation_clip`` and what may
            change at any time.
        other: accept other content. Its checksums replace the recorded ones, which are kept as ``earlier_data``.

    Raises:
        BusyError: a worker is at the run.
        DataError: other content, or content that cannot be checked, without ``other``.
    """
    before = recorded_checksums(run)
    if other:
        record = run.record()
        changes = as_record(data_checksums(config))
        if before is not None and record["data"] != changes["data"]:
            changes["earlier_data"] = [*record.get("earlier_data", []), record["data"]]
        update_record(run, {"config": config.to_dict(), **changes})
        return
    now, then = config.data, run.config().data
    renamed = (now.clips, now.stills, now.validation_clip) != (then.clips, then.stills, then.validation_clip)
    if before is None and renamed:
        raise DataError(
            f"{run.name}: run.json has no checksums of its data, so whether {', '.join(now.clips) or now.stills} is "
            "the same cannot be checked; to continue with it: --other-data"
        )
    if renamed:
        check_data(run, config)
    update_record(run, {"config": config.to_dict()})


def as_record(checksums: Checksums) -> dict[str, Any]:
    """Return the entry of ``run.json``."""
    return {"data": {name: dict(vars(checksum)) for name, checksum in checksums.items()}}
