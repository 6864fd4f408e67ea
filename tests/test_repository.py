"""Repository files: their consistency with each other, and content that must not be committed."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
import torch
import yaml  # comes with gradio

import workbench
from workbench.models import zoo

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = list(dict.fromkeys([*PROJECT["dependencies"], *(need for extra in EXTRAS.values() for need in extra)]))
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
COMMITTED_TEXT = {".py", ".md", ".ipynb", ".toml", ".yml", ".txt", ".js", ".css", ".html", ".json", ".sh", ".jsonl", ""}
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
MEGABYTE = 2**20


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def name_and_floor(requirement: str) -> tuple[str, tuple[int, ...]]:
    found = re.match(r"([A-Za-z0-9._-]+)>=([0-9.]+)", requirement)
    assert found, f"{requirement}: no floor"
    return canonical(found[1]), tuple(int(part) for part in found[2].split("."))


def pins() -> dict[str, tuple[int, ...]]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([0-9.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return {canonical(name): tuple(int(part) for part in version.split(".")) for name, version in found}


def python(source: str, *options: str) -> str:
    """Return the output of a new interpreter."""
    done = subprocess.run(
        [sys.executable, *options, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def committed() -> list[Path]:
    """Return every file that is tracked or would be with the next commit."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout: the committed files are unknown")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    files = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    assert len(files) > 50
    return files


# -- dependencies ---------------------------------------------------------------------------------------------------
def test_every_dependency_has_a_floor_and_a_reason():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    for requirement in REQUIREMENTS:
        name_and_floor(requirement)
        line = next(line for line in lines if f'"{requirement}",' in line)
        assert re.search(r",\s+# \w+", line), f"{requirement}: no reason on its line"


def test_environment_yml_lists_the_dependencies_of_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]
    assert pip == {"pip": [*REQUIREMENTS, "-e ."]}


def test_requirements_txt_lists_the_dependencies_of_pyproject():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == PROJECT["dependencies"]


def test_pinned_versions_reach_every_floor():
    tested = pins()
    for name, floor in map(name_and_floor, REQUIREMENTS):
        assert tested[name][: len(floor)] >= floor, name


def test_pinned_versions_need_no_gpu_packages():
    assert not [name for name in pins() if name.startswith(("nvidia", "cuda", "triton"))]
    assert "+" not in re.sub(r"#.*", "", (ROOT / "constraints.txt").read_text())


# -- setup.sh -------------------------------------------------------------------------------------------------------
@pytest.fixture
def checkout(tmp_path):
    """Return a folder with copies of the files that setup.sh reads, and commands that come first on the PATH."""
    for name in ("setup.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "commands").mkdir()
    return tmp_path


def write_command(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def set_up(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{checkout / 'commands'}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "PYTHON": "python-of-the-test", **environment}
    return subprocess.run(["sh", "setup.sh"], cwd=checkout, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.posix
def test_setup_fails_without_a_suitable_python(checkout):
    write_command(checkout / "commands" / "python-of-the-test", "exit 1  # too old")
    done = set_up(checkout)
    assert done.returncode == 1
    assert "no Python 3.11 or newer among: python-of-the-test" in done.stderr


@pytest.mark.posix
def test_setup_without_venv_names_the_package_to_install(checkout):
    refuses_venv = 'case "$*" in *venv*) echo "ensurepip is not available" >&2; exit 1;; *) echo Python 3.12.0;; esac'
    write_command(checkout / "commands" / "python-of-the-test", refuses_venv)
    done = set_up(checkout)
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr


@pytest.mark.posix
@pytest.mark.parametrize(("floor", "kept"), [("1.0", True), ("999.0", False)])
def test_setup_keeps_a_suitable_torch_and_replaces_an_old_one(checkout, floor, kept):
    pyproject = checkout / "pyproject.toml"
    pyproject.write_text(re.sub(r'"torch>=[0-9.]+"', f'"torch>={floor}"', pyproject.read_text()))
    write_command(
        checkout / ".venv" / "bin" / "python",
        f'case "$*" in *"pip install"*) echo "$*" > asked;; *) exec "{sys.executable}" "$@";; esac',
    )
    done = set_up(checkout)
    assert done.returncode == 0, done.stderr
    asked = (checkout / "asked").read_text().split()
    constraints = (checkout / asked[asked.index("--constraint") + 1]).read_text()
    assert "numpy==" in constraints
    assert ("\ntorch==" not in constraints) == kept == ("keeping torch" in done.stderr)
    assert not [word for word in asked if "index" in word]
    assert (checkout / ".venv" / ".installed").exists()


# -- commands -------------------------------------------------------------------------------------------------------
def test_make_lists_its_targets():
    expected = {"setup", "demo", "test", "check", "notebooks", "lab", "clean"}
    assert expected < TARGETS
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert expected <= set(re.findall(r"^make (\w+)", listed, re.MULTILINE))


def test_commands_of_the_makefile_are_installed():
    called = set(re.findall(r"\$\(BIN\)/(\w[\w-]*)", MAKEFILE))
    assert {"workbench", "pytest", "ruff", "basedpyright", "lint-imports", "nbstripout", "jupyter"} <= called
    here = os.fspath(Path(sys.executable).parent)
    assert not [command for command in called if not shutil.which(command, path=here)]


def code_lines(text: str) -> str:
    """Return the code of a document, fenced, indented or between backticks, one piece per line."""
    fence = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
    fenced = [code for language, code in fence.findall(text) if language != "python"]
    rest = fence.sub("", text)
    return "\n".join([*fenced, *re.findall(r"^ {4}(\S.*)$", rest, re.MULTILINE), *re.findall(r"`([^`]+)`", rest)])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_documents_exist(document):
    from workbench.cli import COMMANDS

    code = code_lines((ROOT / document).read_text())
    made = set(re.findall(r"(?:^|&& )make ([a-z]+)", code, re.MULTILINE))
    assert "test" in made
    assert made <= TARGETS
    assert set(re.findall(r"(?:^|&& |bin/)workbench ([a-z-]+)", code, re.MULTILINE)) <= set(COMMANDS)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_in_documents_exist(document):
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", (ROOT / document).read_text())
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_the_readme_names_the_two_commands_and_is_short():
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme
    assert len(readme.encode()) <= 7300, "details belong into docs/"


# -- what is committed ----------------------------------------------------------------------------------------------
def test_files_contain_no_machine_paths(committed):
    machine = re.compile(r"(?<![\w.])/(?:root|home|Users|work|mnt|opt)/\w")
    shared = "/".join(("..", "shared"))
    for file in committed:
        if file.suffix not in COMMITTED_TEXT:
            continue
        text = file.read_text(errors="replace")
        assert not machine.search(text), f"{file}: {machine.search(text)}"
        if ROOT / "tests" not in file.parents:
            assert shared not in text, file


def test_notebooks_have_no_outputs(committed):
    for file in committed:
        if file.suffix == ".ipynb":
            cells = json.loads(file.read_text())["cells"]
            assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")], file


def test_committed_files_are_small(committed):
    sizes = {file.relative_to(ROOT).as_posix(): file.stat().st_size for file in committed}
    assert not {name: size for name, size in sizes.items() if size > 8 * MEGABYTE}
    assert sum(sizes.values()) < 60 * MEGABYTE


# -- the package ----------------------------------------------------------------------------------------------------
def modules(*under: str) -> list[str]:
    """Return the names of the modules of the package, from their files."""
    files = sorted((ROOT / "workbench").rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    names = [name for name in names if not name.endswith(".__main__")]
    assert len(names) > 30
    return [n for n in names if not under or any(n == start or n.startswith(start + ".") for start in under)]


def test_modules_compile_without_warnings():
    for file in (ROOT / "workbench").rglob("*.py"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compile(file.read_text(), file, "exec", dont_inherit=True)


def test_modules_import_without_warnings():
    output = python(f"""
import importlib, json, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for name in {modules()}:
        importlib.import_module(name)
print(json.dumps([[w.filename, str(w.message)] for w in caught]))
""")
    package = os.fspath(ROOT / "workbench")
    assert not [warning for warning in json.loads(output.splitlines()[-1]) if warning[0].startswith(package)]


def test_viewers_import_no_torch():
    light = modules("workbench.views", "workbench.runs", "workbench.scenes", "workbench.config", "workbench.errors",
                    "workbench.data.video", "workbench.data.datasets.samples", "workbench.cli")  # fmt: skip
    assert "workbench.views.studio" in light
    found = python(f"""
import importlib, sys
for name in {light}:
    importlib.import_module(name)
    if "torch" in sys.modules:
        print(name)
        break
""")
    assert not found, f"{found.strip()} imports torch"


def test_importing_the_package_imports_nothing_else():
    for init in ("workbench/__init__.py", "workbench/data/__init__.py"):
        tree = ast.parse((ROOT / init).read_text())
        assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))], init


def test_contributing_lists_the_import_layers():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [set(layer.split(" | ")) for layer in contracts[0]["layers"]]
    table = re.search(r"^\| layer .*?\n\n", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)
    assert table
    listed = [set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in table[0].strip().splitlines()[2:]]
    assert listed == layers


def test_name_and_version_of_the_package_are_those_of_pyproject():
    assert (workbench.DISTRIBUTION, workbench.__version__) == (PROJECT["name"], PROJECT["version"])


def run_examples(blocks: list[str], title: str) -> None:
    """Run code blocks one after another in one namespace."""
    assert blocks, f"{title}: no example"
    namespace: dict[str, object] = {"__name__": "example"}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{title}, block {number}", "exec"), namespace)


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_examples_in_contributing_run(monkeypatch):
    monkeypatch.setattr(zoo, "NETWORKS", dict(zoo.NETWORKS))  # one of them adds a network
    torch.manual_seed(0)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    for title in ("Add a network", "Bring a network of your own", "Add a loss", "Add a metric"):
        blocks = python_blocks(sections[title])
        assert blocks, f"{title}: no example"
        assert blocks[-1].splitlines()[-1].startswith("assert "), f"{title}: does not end with an assertion"
    run_examples(python_blocks(text), "CONTRIBUTING.md")


def test_examples_of_the_api_page_run():
    run_examples(python_blocks((ROOT / "docs" / "api.md").read_text()), "docs/api.md")
