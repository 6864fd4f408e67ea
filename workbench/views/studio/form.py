"""Form for the settings of a run, made from the dataclasses of :mod:`workbench.config`. No gradio."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from workbench.config import MINIMUMS, SCALES, RunConfig, with_settings
from workbench.errors import ConfigError
from workbench.presets import PRESETS
from workbench.settings import flatten

Kind = Literal["integer", "number", "flag", "choice", "text", "texts", "numbers"]

MAIN_SETTINGS = (
    "student.name", "teacher.name", "teacher.weights", "data.clips", "steps", "stop_after_seconds", "data.crop_size",
    "data.batch_size", "optimizer.learning_rate", "distillation.ratios.spatial", "distillation.ratios.temporal", "seed",
)  # fmt: skip
"""Settings that most users change; they are always visible."""

GROUPS = {
    "Networks": ("student", "teacher", "plain"),
    "Data": ("data",),
    "Distillation": ("distillation",),
    "Other losses": ("distillation.losses",),
    "Gradient-norm ratios": ("distillation.ratios",),
    "Optimizer": ("optimizer",),
    "Run": ("",),
}
"""Groups of the other settings: title and beginnings of the names."""

MAX_TEXT = 4096
MAX_INTEGER = 2**53


@dataclass(frozen=True, kw_only=True)
class Field:
    """One setting.

    Attributes:
        name: dotted name.
        kind: type of the value.
        help: description.
        choices: valid values, where there is a short list.
        minimum: smallest valid number, where there is one.
    """

    name: str
    kind: Kind
    help: str
    choices: tuple[str | int, ...] = ()
    minimum: float | None = None


@cache
def form_fields() -> dict[str, Field]:
    """Return every setting of a run by its dotted name."""
    return {one.name: one for one in _fields(RunConfig, "")}


def _fields(cls: type, path: str) -> Iterator[Field]:
    help_texts = {name: text for base in cls.__mro__[-2::-1] for name, text in _docstrings(base).items()}
    types = get_type_hints(cls)
    for one in fields(cls):
        name, annotation = path + one.name, types[one.name]
        if is_dataclass(annotation):
            yield from _fields(annotation, f"{name}.")  # pyright: ignore[reportArgumentType]
            continue
        choices: tuple[str | int, ...] = get_args(annotation) if get_origin(annotation) is Literal else ()
        if name == "data.scale":
            choices = SCALES
        yield Field(
            name=name, kind="choice" if choices else _kind(annotation), help=help_texts.get(one.name, ""),
            choices=choices, minimum=MINIMUMS.get(name, 0 if "weight" in name else None),
        )  # fmt: skip


def _kind(annotation: Any) -> Kind:
    if get_origin(annotation) is tuple:
        return "numbers" if float in get_args(annotation) else "texts"
    kinds: dict[type, Kind] = {int: "integer", float: "number", bool: "flag", str: "text"}
    return kinds[annotation]


def _docstrings(cls: type) -> dict[str, str]:
    """Return the text below every field of a dataclass, which Python itself discards."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for one, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value) if isinstance(below.value, ast.Constant) else ""
            found[one.target.id] = " ".join(str(text).replace("`", "").split())
    return found


def grouped() -> list[dict[str, Any]]:
    """Return the groups of the form with the names of their settings: the main settings first."""
    rest = [name for name in form_fields() if name not in MAIN_SETTINGS]
    groups = [{"title": "", "fields": list(MAIN_SETTINGS)}]
    for title, places in GROUPS.items():
        groups.append({"title": title, "fields": [name for name in rest if name.rpartition(".")[0] in places]})
    return groups


def describe(suggestions: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the form as a JSON value, without the values of the settings.

    Args:
        suggestions: known values of settings that are names; other values are possible.
    """
    return {
        "groups": grouped(),
        "fields": {
            name: {key: value for key, value in asdict(one).items() if key != "name"}
            | {"suggestions": list(suggestions.get(name, ()))}
            for name, one in form_fields().items()
        },
        "presets": {name: _summary(preset) for name, preset in PRESETS.items()},
    }


def _summary(preset: Callable[[], RunConfig]) -> str:
    first = (inspect.getdoc(preset) or "").partition("\n")[0].removeprefix("Return ")
    return first[:1].upper() + first[1:]


def values_of(config: RunConfig) -> dict[str, Any]:
    """Return the values of the settings by dotted name."""
    return flatten(config.to_dict())


def parse(values: Any) -> RunConfig:
    """Return the config of the values that a browser sent; the preset ``cpu`` supplies missing values.

    Raises:
        ConfigError: invalid value; the message begins with the name of the setting and a colon.

    Example:
        >>> parse({"data.crop_size": 16, "data.clips": ["bikes"]}).data.clips
        ('bikes',)
        >>> parse({"data.crop_size": "16"})
        Traceback (most recent call last):
        workbench.errors.ConfigError: data.crop_size: want a whole number, got '16'
    """
    if not isinstance(values, Mapping):
        raise ConfigError("values: want settings by name; reload the page")
    for name, value in values.items():
        one = form_fields().get(name) if isinstance(name, str) else None
        if one is None:
            raise ConfigError(f"no setting {str(name)[:80]!r}")
        _check(one, value)
    return with_settings(PRESETS["cpu"](), values)


def _check(one: Field, value: Any) -> None:
    """Check lists, sizes and characters, which :class:`RunConfig` itself does not check."""
    items = value if isinstance(value, list) else [value]
    if one.kind in ("texts", "numbers"):
        kind, types = ("text", str) if one.kind == "texts" else ("numbers", (int, float))
        if not isinstance(value, list) or any(not isinstance(i, types) or isinstance(i, bool) for i in items):
            raise ConfigError(f"{one.name}: want a list of {kind}, got {str(value)[:80]!r}")
        if one.kind == "numbers" and len(value) != 2:
            raise ConfigError(f"{one.name}: want two numbers, got {len(value)}")
    for item in items:
        if isinstance(item, str) and (len(item) > MAX_TEXT or not item.isprintable()):
            raise ConfigError(f"{one.name}: want at most {MAX_TEXT} printable characters")
        if isinstance(item, int) and abs(item) > MAX_INTEGER:
            raise ConfigError(f"{one.name}: want an integer of at most 2**53")


def check_selection(field: str, names: Any, known: Collection[str], most: int) -> list[str]:
    """Return the names that a browser selected, each once.

    Raises:
        ConfigError: not a list of one to ``most`` known names.
    """
    if not isinstance(names, list) or not 1 <= len(names) <= most:
        raise ConfigError(f"{field}: select one to {most}")
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise ConfigError(f"{field}: no {str(name)[:40]!r}; select from the list")
    return list(dict.fromkeys(names))
