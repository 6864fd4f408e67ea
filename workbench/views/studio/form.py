"""The settings of a run as a form: fields made from the dataclasses of :mod:`workbench.config`, and back. No gradio."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from workbench.config import MINIMUMS, PRESETS, SCALES, RunConfig, changed, flat
from workbench.errors import ConfigError

Kind = Literal["whole", "number", "yes", "choice", "text", "texts", "numbers"]

USED = (
    "student.name", "teacher.name", "teacher.weights", "data.clips", "steps", "stop_after_seconds", "data.crop_size",
    "data.batch_size", "optimizer.learning_rate", "distillation.spatial_weight", "distillation.temporal_weight", "seed",
)  # fmt: skip
"""The settings that most people change; they stand open."""

GROUPS = {
    "The networks": ("student", "teacher", "plain"),
    "Footage": ("data",),
    "What is distilled": ("distillation",),
    "Other ways to teach": ("distillation.losses",),
    "How the student moves": ("optimizer",),
    "The run": ("",),
}
"""The others, by what their names begin with."""

LONGEST_TEXT = 4096
LARGEST_WHOLE = 2**53


@dataclass(frozen=True, kw_only=True)
class Field:
    """One setting.

    Attributes:
        name: dotted.
        kind: what it holds.
        help: what it means.
        choices: what it can be, where that is a short list.
        least: the smallest number it can be, where there is one.
    """

    name: str
    kind: Kind
    help: str
    choices: tuple[str | int, ...] = ()
    least: float | None = None


@cache
def form_fields() -> dict[str, Field]:
    """Every setting of a run, by its dotted name."""
    return {one.name: one for one in _fields(RunConfig, "")}


def _fields(cls: type, path: str) -> Iterator[Field]:
    help_of, kinds = _docstrings(cls), get_type_hints(cls)
    for one in fields(cls):
        name, kind = path + one.name, kinds[one.name]
        if is_dataclass(kind):
            yield from _fields(kind, f"{name}.")  # pyright: ignore[reportArgumentType]
            continue
        choices: tuple[str | int, ...] = get_args(kind) if get_origin(kind) is Literal else ()
        if name == "data.scale":
            choices = SCALES
        yield Field(
            name=name, kind="choice" if choices else _kind(kind), help=help_of.get(one.name, ""), choices=choices,
            least=MINIMUMS.get(name, 0 if "weight" in name else None),
        )  # fmt: skip


def _kind(kind: Any) -> Kind:
    if get_origin(kind) is tuple:
        return "numbers" if float in get_args(kind) else "texts"
    kinds: dict[type, Kind] = {int: "whole", float: "number", bool: "yes", str: "text"}
    return kinds[kind]


def _docstrings(cls: type) -> dict[str, str]:
    """The text under every field of a dataclass; Python itself does not keep it."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for one, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value) if isinstance(below.value, ast.Constant) else ""
            found[one.target.id] = " ".join(str(text).replace("`", "").split())
    return found


def grouped() -> list[dict[str, Any]]:
    """The fields in the groups of the form: the most used ones first, then the rest."""
    known = form_fields()
    rest = [name for name in known if name not in USED]
    groups = [{"title": "", "fields": list(USED)}]
    for title, places in GROUPS.items():
        names = [name for name in rest if name.rpartition(".")[0] in places]
        groups.append({"title": title, "fields": names})
    return groups


def described(choices: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The whole form as a JSON value, without the values of the settings.

    Args:
        choices: what may be chosen for settings that are names; other words can be written in, too.
    """
    return {
        "groups": grouped(),
        "fields": {
            name: {key: value for key, value in asdict(one).items() if key != "name"}
            | {"suggestions": list(choices.get(name, ()))}
            for name, one in form_fields().items()
        },
        "presets": {name: (inspect.getdoc(preset) or "").splitlines()[0] for name, preset in PRESETS.items()},
    }


def values_of(config: RunConfig) -> dict[str, Any]:
    """The settings by dotted name, as the form shows them."""
    return flat(config.to_dict())


def read(values: Any) -> RunConfig:
    """A config from what a form, or a stranger, sends; what is left out is as in the preset ``cpu``.

    Raises:
        ConfigError: what cannot be, with the name of the setting before a colon.

    Example:
        >>> read({"data.crop_size": 16, "data.clips": ["bikes"]}).data.clips
        ('bikes',)
        >>> read({"data.crop_size": "16"})
        Traceback (most recent call last):
        workbench.errors.ConfigError: data.crop_size: want a whole number, got '16'
    """
    if not isinstance(values, Mapping):
        raise ConfigError("want settings by name; reload the page")
    for name, value in values.items():
        one = form_fields().get(name) if isinstance(name, str) else None
        if one is None:
            raise ConfigError(f"no setting {str(name)[:80]!r}")
        _check(one, value)
    return changed(PRESETS["cpu"](), values)


def _check(one: Field, value: Any) -> None:
    """What :class:`RunConfig` itself does not look at: lists inside, sizes, and letters that nobody can type."""
    parts = value if isinstance(value, list) else [value]
    if one.kind in ("texts", "numbers"):
        wanted, kinds = ("text", str) if one.kind == "texts" else ("numbers", (int, float))
        if not isinstance(value, list) or any(not isinstance(p, kinds) or isinstance(p, bool) for p in parts):
            raise ConfigError(f"{one.name}: want a list of {wanted}, got {str(value)[:80]!r}")
        if one.kind == "numbers" and len(value) != 2:
            raise ConfigError(f"{one.name}: want two numbers, got {len(value)}")
    for part in parts:
        if isinstance(part, str) and (len(part) > LONGEST_TEXT or not part.isprintable()):
            raise ConfigError(f"{one.name}: want up to {LONGEST_TEXT} printable letters")
        if isinstance(part, int) and abs(part) > LARGEST_WHOLE:
            raise ConfigError(f"{one.name}: want a number of ordinary size")
