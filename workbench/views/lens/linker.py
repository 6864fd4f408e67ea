"""Link ES modules into one script, since Gradio, a notebook and a report page each evaluate one text.

The modules are also valid as they are: a browser can import them without this. Two forms are handled, each on one line:
``import { a, b } from './file.js';`` and ``export`` before a ``function``, ``async function``, ``class`` or ``const``.
"""

from __future__ import annotations

import re
from pathlib import Path

IMPORT = re.compile(r"^import \{ ([\w, ]+) \} from '(\.[\w./-]+\.js)';\n", re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:(?:async )?function|class|const) (\w+))", re.MULTILINE)
OTHER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def link(*entries: Path) -> str:
    """Return the entries as one script, after the modules that they import, each with a scope of its own.

    The entries themselves share the outermost scope; what they export is a name there.

    Raises:
        ValueError: a cycle of imports, a name that is not exported, or a form that is not handled.
    """
    exports: dict[Path, tuple[str, ...]] = {}
    imported: dict[Path, set[str]] = {}
    modules: list[str] = []
    bodies = [_body(entry.resolve(), exports, modules, imported, ()) for entry in entries]
    return "".join([*modules, *(_binding(path, sorted(names)) for path, names in imported.items()), *bodies])


def _body(
    path: Path,
    exports: dict[Path, tuple[str, ...]],
    modules: list[str],
    imported: dict[Path, set[str]],
    importers: tuple[Path, ...],
) -> str:
    """Return the text of a module without imports and exports, after linking what it imports."""
    if path in importers:
        raise ValueError(f"{path.name}: imports itself through {', '.join(p.name for p in importers)}")
    text = path.read_text(encoding="utf-8")
    for names, other in IMPORT.findall(text):
        module = (path.parent / other).resolve()
        if module not in exports:
            inner: dict[Path, set[str]] = {}
            body = _body(module, exports, modules, inner, (*importers, path))
            exports[module] = tuple(EXPORT.findall(module.read_text(encoding="utf-8")))
            bindings = "".join(_binding(inside, sorted(found)) for inside, found in inner.items())
            modules.append(
                f"const {_name(module)} = (() => {{\n'use strict';\n{bindings}{body}"
                f"return {{ {', '.join(exports[module])} }};\n}})();\n"
            )
        wanted = set(names.split(", "))
        if absent := sorted(wanted - set(exports[module])):
            raise ValueError(f"{path.name}: {absent[0]} is not exported by {module.name}")
        imported.setdefault(module, set()).update(wanted)
    body = EXPORT.sub("", IMPORT.sub("", text))
    if other := OTHER.search(body):
        raise ValueError(f"{path.name}: {other[0]!r} is not one of the forms that are linked")
    return body


def _binding(path: Path, names: list[str]) -> str:
    return f"const {{ {', '.join(names)} }} = {_name(path)};\n"


def _name(path: Path) -> str:
    return f"module_{path.stem}"
