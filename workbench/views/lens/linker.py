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


def bundle_modules(*entries: Path) -> str:
    """Return the entries as one script, after the modules that they import, each with a scope of its own.

    The entries themselves share the outermost scope: what one of them imports or exports is a name for all.

    Raises:
        ValueError: a cycle of imports, a name that is not exported, two files of one name, or another form of import.
    """
    modules: dict[Path, str] = {}
    bodies = [_bundle(entry.resolve(), modules, ()) for entry in entries]
    return "".join([*modules.values(), *bodies])


def _bundle(path: Path, modules: dict[Path, str], importers: tuple[Path, ...]) -> str:
    """Return the text of a module whose imports refer to other modules, after linking those."""
    if path in importers:
        raise ValueError(f"{path.name}: imports itself through {', '.join(p.name for p in importers)}")

    def bind(found: re.Match[str]) -> str:
        module = (path.parent / found[2]).resolve()
        exports = EXPORT.findall(module.read_text(encoding="utf-8"))
        if module not in modules:
            body = _bundle(module, modules, (*importers, path))
            if namesake := next((known for known in modules if known.stem == module.stem), None):
                raise ValueError(f"{path.name}: {module} and {namesake} have one name; rename one of them")
            returned = f"return {{ {', '.join(exports)} }};"
            modules[module] = f"const module_{module.stem} = (() => {{\n'use strict';\n{body}{returned}\n}})();\n"
        if absent := set(found[1].split(", ")) - set(exports):
            raise ValueError(f"{path.name}: {min(absent)} is not exported by {module.name}")
        return f"const {{ {found[1]} }} = module_{module.stem};\n"

    body = EXPORT.sub("", IMPORT.sub(bind, path.read_text(encoding="utf-8")))
    if other := OTHER.search(body):
        raise ValueError(f"{path.name}: {other[0]!r} is not one of the forms that are linked")
    return body
