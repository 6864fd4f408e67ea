"""The linker of ES modules; that the linked text runs is tested with the pages in ``tests/browser``."""

import re

import pytest

from workbench.views.lens import FOLDER
from workbench.views.lens.linker import IMPORT, bundle_modules

ENTRIES = ["lens.js", "progress.js", "notebook.js", "../report.js"]


@pytest.fixture
def write(tmp_path):
    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.js").write_text(text)
        return tmp_path

    return write


def test_modules_are_linked_once_and_before_their_importers(write):
    folder = write(
        low="export const one = 1;\nconst hidden = 2;\n",
        middle="import { one } from './low.js';\nexport function two() { return one + 1; }\n",
        top="import { one } from './low.js';\nimport { two } from './middle.js';\nexport const three = one + two();\n",
    )
    assert bundle_modules(folder / "top.js") == (
        "const module_low = (() => {\n'use strict';\nconst one = 1;\nconst hidden = 2;\nreturn { one };\n})();\n"
        "const module_middle = (() => {\n'use strict';\nconst { one } = module_low;\n"
        "function two() { return one + 1; }\nreturn { two };\n})();\n"
        "const { one } = module_low;\nconst { two } = module_middle;\nconst three = one + two();\n"
    )


def test_entries_share_a_scope(write):
    folder = write(
        low="export const a = 1;\nexport const b = 2;\n",
        first="import { a } from './low.js';\nconst c = a;\n",
        second="import { b } from './low.js';\nconst d = b + c;\n",
    )
    text = bundle_modules(folder / "first.js", folder / "second.js")
    assert text.endswith("const { a } = module_low;\nconst c = a;\nconst { b } = module_low;\nconst d = b + c;\n")


@pytest.mark.parametrize(
    ("low", "top", "named"),
    [
        ("import { b } from './top.js';\nexport const a = 1;\n", "import { a } from './low.js';\n", "top.js, low.js"),
        ("export const a = 1;\n", "import { b } from './low.js';\n", "b is not exported by low.js"),
        ("export default 1;\n", "import { a } from './low.js';\n", "export default 1"),
        ("export const a = 1;\n", "import * as low from './low.js';\n", "import [*] as low"),
        ("export const a = 1;\n", "import { a as b } from './low.js';\n", "a as b"),
        ("export const a = 1;\n", "export { a } from './low.js';\n", "export { a }"),
    ],
)
def test_other_forms_of_import_raise(write, low, top, named):
    folder = write(low=low, top=top)
    with pytest.raises(ValueError, match=named):
        bundle_modules(folder / "top.js")


def test_two_modules_of_one_name_raise(write, tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "low.js").write_text("export const b = 2;\n")
    folder = write(
        low="export const a = 1;\n",
        top="import { a } from './low.js';\nimport { b } from './inside/low.js';\nconst c = a + b;\n",
    )
    with pytest.raises(ValueError, match=r"low\.js"):
        bundle_modules(folder / "top.js")


@pytest.mark.parametrize("entry", ENTRIES)
def test_modules_of_the_lens_are_linked_without_unused_imports(entry):
    text = bundle_modules(FOLDER / entry)
    assert "mount" in text
    for path in [FOLDER / entry, *FOLDER.glob("*.js")]:
        source = path.read_text(encoding="utf-8")
        body = IMPORT.sub("", source)
        names = [name for names, _ in IMPORT.findall(source) for name in names.split(", ")]
        assert [name for name in names if not re.search(rf"\b{name}\b", body)] == [], path.name
