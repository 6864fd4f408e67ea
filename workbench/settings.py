"""Nested settings: frozen dataclasses from JSON and back, by dotted names, and what differs between two of them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from workbench.aliases import setting_name
from workbench.errors import ConfigError

Settings = TypeVar("Settings")

type_hints = cache(get_type_hints)
"""Types of the fields of a dataclass; cached, since a manifest has 100,000 dataclasses."""


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted names, with lists in place of tuples, as in JSON.

    Example:
        >>> flatten({"data": {"crop_size": 32}, "clips": ("a", "b")})
        {'data.crop_size': 32, 'clips': ['a', 'b']}
    """
    named: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            named |= flatten(value, f"{prefix}{name}.")
        else:
            named[prefix + name] = list(value) if isinstance(value, tuple) else value
    return named


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the settings, nested or flat, that both have and that differ: dotted name -> (old, new).

    Example:
        >>> differences({"steps": 3, "seed": 0}, {"steps": 4, "seed": 0})
        {'steps': (3, 4)}
    """
    old, new = flatten(old), flatten(new)
    return {name: (value, new[name]) for name, value in old.items() if name in new and new[name] != value}


def build_settings(cls: type[Settings], saved: Mapping[str, Any], prefix: str = "") -> Settings:
    """Build a dataclass of settings, and those nested in it, from JSON.

    Raises:
        ConfigError: an unknown name, also one of an earlier version (the new or the nearest one is suggested), or a
            value in place of a group.
    """
    types = type_hints(cls)
    values: dict[str, Any] = {}
    for name, value in saved.items():
        path = prefix + name
        if name not in types:
            renamed = setting_name(path)
            near = [renamed] if renamed != path else [prefix + one for one in difflib.get_close_matches(name, types, 1)]
            raise ConfigError(f"no setting {path!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if is_dataclass(types[name]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{path}: want a group of settings, got {value!r}")
            values[name] = build_settings(types[name], value, f"{path}.")
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)


def from_json(kind: Any, saved: Any, name: str = "") -> Any:
    """Build a value of a type from JSON: dataclasses and mappings from objects, tuples from lists.

    Entries that a dataclass does not have are ignored.

    Args:
        kind: a dataclass, or the type of one of its fields.
        saved: from :func:`json.loads`.
        name: dotted name of the value, for messages.

    Raises:
        ConfigError: an entry is missing or has another type.

    Example:
        >>> from_json(tuple[int, int], [448, 256]), from_json(float | None, None)
        ((448, 256), None)
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if saved is None else from_json(inner[0], saved, name)
    if is_dataclass(kind) and isinstance(saved, Mapping):
        types = type_hints(kind)
        known = {key: value for key, value in saved.items() if key in types}
        values = {key: from_json(types[key], value, f"{name}.{key}") for key, value in known.items()}
        try:
            return kind(**values)  # pyright: ignore[reportCallIssue]
        except TypeError as error:
            raise ConfigError(f"{name.removeprefix('.')}: {error}") from error
    if origin is Mapping and isinstance(saved, Mapping):
        return {key: from_json(inner[1], value, f"{name}.{key}") for key, value in saved.items()}
    if origin is tuple and isinstance(saved, list):
        kinds = inner[:1] * len(saved) if inner[-1] is Ellipsis else inner
        if len(kinds) == len(saved):
            items = enumerate(zip(kinds, saved, strict=True))
            return tuple(from_json(one, value, f"{name}[{number}]") for number, (one, value) in items)
    if (origin is Literal and saved in inner) or type(saved) is kind:
        return saved
    if kind is float and type(saved) is int:
        return float(saved)
    wanted = " or ".join(map(str, inner)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise ConfigError(f"{name.removeprefix('.')}: want {wanted}, got {str(saved)[:80]!r}")


def check_types(settings: Any, prefix: str = "") -> None:
    """Refuse values of another type than their field's; JSON, forms and notebooks are not type-checked.

    Raises:
        ConfigError: names the field, the type and the value.
    """
    plain = {
        int: (int, "a whole number"),
        bool: (bool, "true or false"),
        str: (str, "text"),
        float: ((int, float), "a number"),
    }
    types = type_hints(type(settings))
    for name in (field.name for field in fields(settings)):
        kind, value, wanted = types[name], getattr(settings, name), ""
        if isinstance(kind, type) and is_dataclass(kind):
            if isinstance(value, kind):
                check_types(value, f"{prefix}{name}.")
            else:
                wanted = "a group of settings"
        elif get_origin(kind) is Literal:
            wanted = "" if value in get_args(kind) else f"one of {', '.join(get_args(kind))}"
        elif get_origin(kind) is tuple:
            wanted = "" if isinstance(value, tuple) else "a list"
        elif not isinstance(value, plain[kind][0]) or (isinstance(value, bool) and kind is not bool):
            wanted = plain[kind][1]
        elif kind is float and not math.isfinite(value):
            wanted = "a finite number"
        if wanted:
            raise ConfigError(f"{prefix}{name}: want {wanted}, got {value!r}")
