"""Pages of the documentation site, checked without building it."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import yaml  # comes with gradio

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_api" not in path.parts and "notebooks" not in path.parts)
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def name_of(path: Path) -> str:
    return path.relative_to(DOCS).with_suffix("").as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings of a page, as MyST makes them."""
    headings = re.findall(r"^#{1,3} (.*)$", re.sub(r"^```.*?^```", "", text_of(path), flags=re.DOTALL | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_and_notebook_is_in_the_table_of_contents():
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", text_of(DOCS / "index.md"), re.DOTALL | re.MULTILINE)
    listed = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    assert len(listed) == len(set(listed)) > 20
    assert set(listed) == {*map(name_of, PAGES), *(f"notebooks/{name}" for name in NOTEBOOKS)} - {"index"}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_between_pages_lead_to_pages_and_headings(path):
    text = re.sub(r"^```(?!\{).*?^```", "", text_of(path), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        page = (path.parent / target).resolve() if target else path
        assert page.is_file(), link
        if anchor:
            assert anchor in anchors(page), link
    for name in re.findall(r"\{doc\}`([^`<]+)`", text):
        page = (path.parent / name).resolve()
        assert page.with_suffix(".md").is_file() or (ROOT / "notebooks" / f"{page.name}.ipynb").is_file(), name
    for source in re.findall(r"^```\{include\} (\S+)", text, re.MULTILINE):
        assert (path.parent / source).is_file(), source


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_in_pages_exist(path):
    from workbench.cli import COMMANDS

    commands = re.findall(r"^```sh\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE)
    called = set(re.findall(r"(?:^|/)workbench ([a-z-]+)", "\n".join(commands), re.MULTILINE))
    assert called <= set(COMMANDS)
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", "\n".join(commands), re.MULTILINE)) <= targets


@pytest.mark.parametrize("path", sorted((DOCS / "concepts").glob("*.md")), ids=name_of)
def test_the_cells_of_a_concept_run(path):
    cells = re.findall(r"^```\{code-cell\} python\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE)
    assert cells
    namespace: dict[str, object] = {"display": lambda *_: None}
    for number, cell in enumerate(cells, 1):
        source = re.sub(r"^:tags:.*\n", "", cell, flags=re.MULTILINE)
        exec(compile(source, f"{name_of(path)}, cell {number}", "exec"), namespace)


@pytest.fixture(scope="module")
def check_site():
    spec = importlib.util.spec_from_file_location("check_site", ROOT / "tools" / "check_site.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_site"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["check_site"]


def test_the_check_of_a_site_finds_each_kind_of_fault(check_site, tmp_path):
    (tmp_path / "sub").mkdir()
    good = '<h1 id="top">x</h1><a href="sub/other.html#there">a</a> <a href="#top">b</a> <a href="https://a.org">c</a>'
    (tmp_path / "index.html").write_text(good, encoding="utf-8")
    (tmp_path / "sub" / "other.html").write_text('<p id="there"><img src="../x.png"></p>', encoding="utf-8")
    (tmp_path / "x.png").write_bytes(b"")
    assert check_site.check(tmp_path) == ([], ["https://a.org"], 2)

    bad = '<a href="none.html">a</a><a href="index.html#none">b</a><script src="https://cdn.example/x.js"></script>'
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")
    (tmp_path / "bad.css").write_text('@import url("https://fonts.example/x.css");', encoding="utf-8")
    faults, external, pages = check_site.check(tmp_path)
    assert [fault.split(":")[0] for fault in faults] == ["bad.css", "bad.html", "bad.html", "bad.html"]
    assert external == ["https://a.org", "https://cdn.example/x.js"]
    assert pages == 3


def test_workflows_and_templates_are_yaml():
    files = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]
    assert len(files) > 6
    for path in files:
        assert yaml.safe_load(text_of(path)), path


def test_the_citation_names_the_version():
    import workbench

    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    assert citation["version"] == workbench.__version__
    assert f"## [{workbench.__version__}] - {citation['date-released']}" in text_of(ROOT / "CHANGELOG.md")


def test_pre_commit_runs_the_commands_of_make_check():
    check = re.search(r"^check:.*?\n((?:\t.*\n)+)", text_of(ROOT / "Makefile"), re.MULTILINE)
    assert check
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in check[1].splitlines()]
    hooks = yaml.safe_load(text_of(ROOT / ".pre-commit-config.yaml"))["repos"][0]["hooks"]
    assert set(commands) <= {hook["entry"] for hook in hooks}
