"""Vocabulary of the code, the help texts and the documentation."""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


BAD_OPENINGS = listed("what of where who so that")
"""First words that no docstring has. It begins with a noun phrase or, for a function, with a verb."""

BAD_HELP_OPENINGS = BAD_OPENINGS | listed("""
    also as at auto because before between by for from how if in instead into on once only out over since than then
    these this those through to under until when whether which while whose why with without
""")
"""First words that no help text has. It begins with a noun (its article, its number) or with a verb."""

PLAINER = listed("anew beside films? likewise nobody pictures? pupils? somebody")
"""Words for which the field has a plainer one."""

BRITISH = listed("""
    analys(e|ed|es|ing) artefacts? behaviours? catalogues? centre[ds]? centring colour(s|ed|ful|ing|less)? defence
    distils? favour(s|ed|able|ing)? grey(s|scale)? honours? judgement labell(ed|ing) learnt licences? metres? misspelt
    modell(ed|ing) neighbour(s|ing|hoods?)? programmes? spelt travelled whilst
""")
STEMS = listed("""
    categor custom emphas equal general initial local maxim minim normal optim organ parallel quant random recogn
    regular sanit serial special stabil standard summar synchron token util vector visual
""")
"""British spellings; code and documentation are American."""

ENDINGS = rf"(de|re|un)?({'|'.join(STEMS)})is(e[ds]?|ers?|ing|ations?)"
WORDS = re.compile("|".join([*PLAINER, *BRITISH, ENDINGS]), re.IGNORECASE)
PHRASES = re.compile(r"\b(?:comes? on top|in words|so many|to be had)\b", re.IGNORECASE)

ALLOWED = {
    '"licence"': "a key of scene.json in earlier versions",
    "to_picture": "a layer in weights of earlier versions",
    "lomiri_Picture": "names of image files that others made",
}
"""Passages in which a word of the list is right, with the reason."""

OLD_OPTIONS = listed("--effort --frames-from --fresh --layout-only --low --stretch")
OLD_NAMES = listed("""
    Appetite Contender Lesson Pupil Taught add_look align_phases attention_as_coded cache_teacher check_keep
    clip_gradient find_method keep_signal lay_out low_pictures mean_power most_held motion_weight offset_rate
    output_huge pass_channel polite_signals power_mean profile_distance save_state say_filling sd_large see_edges
    sees_truth set_up_process tells_motion views_at wants_out watch_every where_better
""")
"""Names that are gone. They occur in the alias map, in the changelog and in tests of old files only."""

OLD_DEFINITIONS = listed("""
    About Desk Facts Film Foreign Gallery Guard Held Look Note Others Pictures Room Row Rules Seen Term arriving
    carriers errands glimpse lesson look perform readings recalls remember say taught told weigh
""")
"""Names that are gone and that are also words or names of other libraries: nothing is defined under one of them."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def files(*places: str) -> tuple[Path, ...]:
    """Return the files of folders, by patterns such as ``workbench/**/*.py``."""
    found = sorted({path for place in places for path in ROOT.glob(place)})
    assert found, places
    return tuple(found)


@cache
def text_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


@cache
def code_of(path: Path) -> ast.Module:
    if path.suffix != ".ipynb":
        return ast.parse(text_of(path))
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ast.parse("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))


def line_of(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


@cache
def is_avoided(word: str) -> bool:
    return bool(WORDS.fullmatch(word))


def avoided(text: str) -> Iterator[tuple[int, str]]:
    """Yield the place and text of avoided words and phrases, also within names: ``snake_case``, ``camelCase``."""
    for word in re.finditer(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text):
        if is_avoided(word[0]):
            yield word.start(), word[0]
    for phrase in PHRASES.finditer(text):
        yield phrase.start(), phrase[0]


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and text of docstrings, those below assignments included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value.strip()


def first_word(text: str) -> str:
    found = re.match(r"\W*([\w'-]+)", text)
    return found[1].lower() if found else ""


def docstring_faults(path: Path) -> list[str]:
    return [
        f"{name_of(path)}:{line}: docstring opens with {text.splitlines()[0]!r}"
        for line, text in docstrings(code_of(path))
        if first_word(text) in BAD_OPENINGS
    ]


def word_faults(path: Path) -> list[str]:
    text = text_of(path)
    for passage in ALLOWED:
        text = text.replace(passage, " " * len(passage))
    return [f"{name_of(path)}:{line_of(text, place)}: {word!r}" for place, word in avoided(text)]


def name_faults(path: Path) -> list[str]:
    text = text_of(path)
    names = "|".join(re.escape(name) for name in sorted(OLD_NAMES))
    options = "|".join(sorted(OLD_OPTIONS))
    found = re.finditer(rf"(?<!\w)(?:{names})(?!\w)|(?<![\w-])(?:{options})(?![\w-])|\bworkbench walk\b", text)
    return [f"{name_of(path)}:{line_of(text, m.start())}: old name {m[0]!r}" for m in found]


def definitions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and name of whatever code defines: classes, functions, arguments, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def definition_faults(path: Path) -> list[str]:
    gone = OLD_NAMES | OLD_DEFINITIONS
    return [
        f"{name_of(path)}:{line}: defines {name!r}"
        for line, name in definitions(code_of(path))
        if name.lstrip("_") in gone
    ]


def help_of_settings(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, name and help of the fields of dataclasses. A group of settings may have its help in its class."""
    classes = [node for node in code_of(path).body if isinstance(node, ast.ClassDef)]
    groups = {settings.name for settings in classes}
    for settings in classes:
        for field, following in zip_longest(settings.body, settings.body[1:]):
            if not isinstance(field, ast.AnnAssign):
                continue
            text = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                text = str(following.value.value)
            elif ast.unparse(field.annotation) in groups:
                continue
            yield field.lineno, f"{settings.name}.{ast.unparse(field.target)}", text


def is_command(function: ast.FunctionDef) -> bool:
    """Return whether the command line is made from a function's arguments."""
    arguments = function.args.kwonlyargs
    return bool(arguments) and "Args:" in (ast.get_docstring(function) or "") and not function.name.startswith("_")


def help_of_options(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, name and help of the options of commands."""
    for function in ast.walk(code_of(path)):
        if isinstance(function, ast.FunctionDef) and is_command(function):
            section = (ast.get_docstring(function) or "").split("Args:\n")[1]
            section = re.split(r"^\S", section, maxsplit=1, flags=re.MULTILINE)[0]
            helps = dict(re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", section, re.DOTALL | re.MULTILINE))
            arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            for argument in arguments:
                yield function.lineno, argument.arg, helps.get(argument.arg, "")


def help_faults(path: Path) -> list[str]:
    source = help_of_options if path.parent.name == "cli" else help_of_settings
    return [
        f"{name_of(path)}:{line}: help of {name}: {text.split('. ')[0].strip()!r}"
        for line, name, text in source(path)
        if name != "config" and (first_word(text) in BAD_HELP_OPENINGS | {""} or not text.strip().endswith("."))
    ]


TEXTS = ("app.py", "*.md", "docs/*.md", "docs/concepts/*.md", "docs/howto/*.md", "notebooks/*.ipynb")
PACKAGE = ("workbench/**/*.py", "workbench/**/*.js", "workbench/**/*.html")
SCRIPTS = ("bench/*.py", "tools/*.py")
TESTS = ("tests/**/*.py",)
RULES = {
    "docstrings": (docstring_faults, files("workbench/**/*.py", *SCRIPTS, *TESTS)),
    "words": (word_faults, files(*TEXTS, *PACKAGE, "workbench/**/*.md", *TESTS)),
    "names": (name_faults, files(*TEXTS, *PACKAGE, *SCRIPTS)),
    "definitions": (definition_faults, files("app.py", "notebooks/*.ipynb", "workbench/**/*.py", *SCRIPTS, *TESTS)),
    "help": (help_faults, files("workbench/config.py", "workbench/distillation_config.py", "workbench/cli/*.py")),
}
"""The rules, each with the files that it holds for."""

EXEMPT = {
    ("words", "docs/data.md"): "names of image files",
    ("words", "workbench/aliases.py"): "old names, as in files of earlier versions",
    ("names", "workbench/aliases.py"): "old names, as in files of earlier versions",
    ("words", "tests/test_language.py"): "the list of words",
    ("words", "tests/training/test_old_runs.py"): "old names, as in files of earlier versions",
    ("words", "CHANGELOG.md"): "a table of old names",
    ("names", "CHANGELOG.md"): "a table of old names",
}
"""Files in which a rule does not hold, with the reason."""


@cache
def faults(rule: str) -> dict[str, list[str]]:
    """Return what breaks a rule, by file."""
    check, places = RULES[rule]
    found = {name_of(path): check(path) for path in places if (rule, name_of(path)) not in EXEMPT}
    return {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize("rule", RULES)
def test_files_keep_the_rule(rule):
    found = [line for lines in faults(rule).values() for line in lines]
    assert not found, "\n".join(["", *found])


def test_exempt_files_exist():
    assert all((ROOT / name).is_file() for _, name in EXEMPT)


def test_commands_and_settings_are_found():
    settings = {name for _, name, _ in help_of_settings(ROOT / "workbench/config.py")}
    assert {"RunConfig.steps", "Data.batch_size", "Optimizer.learning_rate"} <= settings
    options = {name for path in files("workbench/cli/*.py") for _, name, _ in help_of_options(path)}
    assert {"network", "protocol", "resume", "chunk_frames", "memory"} <= options


@pytest.mark.parametrize(
    "text", ["a picture", "two_pictures", "load_picture", "PICTURES", "loadPicture", "Colour", "optimised"]
)
def test_words_are_found_in_names(text):
    assert list(avoided(text))


@pytest.mark.parametrize(
    "text", ["filmstrip", "besides", "color", "precise", "revision", "size", "otherwise", "distill", "distilled"]
)
def test_other_words_are_not_found(text):
    assert not list(avoided(text))


def test_docstrings_below_assignments_are_read():
    tree = ast.parse('"""What is here."""\nx = 1\n"""Of use."""\ndef f():\n    """Where it is."""\n')
    assert [first_word(text) for _, text in docstrings(tree)] == ["what", "of", "where"]
