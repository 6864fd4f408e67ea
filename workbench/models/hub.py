"""Weights on the Hugging Face Hub: download and upload, only on request.

A repository contains ``model.safetensors`` with the recipe of its network, and a card, ``README.md``. No other file is
read or written. Cache, token and address are those of ``huggingface_hub``: ``HF_HOME``, ``HF_TOKEN``, ``HF_ENDPOINT``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import WeightsError
from workbench.weight_files import check_weight_file

HUB = "hub:"
"""Prefix ``hub:OWNER/NAME`` of weights on the hub; ``hub:OWNER/NAME@REVISION`` for a branch, tag or commit."""
FILE = "model.safetensors"
LIBRARY = "vsr-distillation-workbench"
_REPOSITORY = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def download(where: str) -> Path:
    """Return the path of the weights of ``hub:OWNER/NAME`` in the local cache, after downloading what it lacks.

    Raises:
        WeightsError: no such repository or file, no connection, or ``HF_HUB_OFFLINE`` is set and the cache lacks it.
    """
    from huggingface_hub import hf_hub_download

    repository, revision = _parse(where)
    with _described(where):
        return Path(hf_hub_download(repository, FILE, revision=revision))


def upload(weights: Path, card: str, name: str, *, private: bool = False) -> str:
    """Write weights and their card to the repository ``OWNER/NAME``, which is created if it does not exist.

    Args:
        weights: a safetensors file.
        card: text of the model card, see :mod:`workbench.evaluation.model_card`.
        name: ``OWNER/NAME``.
        private: whether a new repository is private.

    Returns:
        The address of the commit.

    Raises:
        WeightsError: not a safetensors file, no right to write there, no connection, or ``HF_HUB_OFFLINE`` is set.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    repository, revision = _parse(name)
    if revision:
        raise WeightsError(f"{name}: want OWNER/NAME without a revision; an upload is a commit to the main branch")
    check_weight_file(weights)
    files = [CommitOperationAdd("README.md", card.encode()), CommitOperationAdd(FILE, weights)]
    api = HfApi(library_name=LIBRARY)
    with _described(name):
        api.create_repo(repository, private=private, exist_ok=True)
        return api.create_commit(repository, files, commit_message=f"Upload weights with {LIBRARY}").commit_url


def _parse(where: str) -> tuple[str, str | None]:
    found = _REPOSITORY.fullmatch(where.removeprefix(HUB))
    if not found:
        raise WeightsError(f"hub: want OWNER/NAME or OWNER/NAME@REVISION, got {where!r}")
    return found["repository"], found["revision"]


@contextmanager
def _described(where: str) -> Iterator[None]:
    """Raise errors of the hub with what to do about them."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage] - of httpx or httpx2, by release
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise WeightsError(f"hub: want OWNER/NAME, got {where!r} ({error})") from error
    except (OSError, HTTPError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if constants.HF_HUB_OFFLINE:
            fix = f"HF_HUB_OFFLINE forbids connections, and the cache {constants.HF_HUB_CACHE} lacks it; unset it"
        elif isinstance(error, RevisionNotFoundError):
            fix = "the repository has no such revision; choose one that its page lists"
        elif isinstance(error, RepositoryNotFoundError) or status in (401, 403):
            fix = "no such repository, or no right to it; check the name, or log in with `hf auth login`"
        elif isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            fix = f"the repository has no {FILE}; download a file of another name, and give its path"
        else:
            cause = str(error.__cause__ or error).partition("\n")[0]
            fix = f"no answer from {constants.ENDPOINT} ({cause}); check the connection, and try again"
        raise WeightsError(f"{where}: {fix}") from error
