"""What holds for the code base as a whole."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from motc import __version__

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 500
LAWS = {"obeys_every_law", "report", "broken"}
SOURCES = sorted(
    path
    for folder in ("motc", "codegen_templates", "examples", "bench", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if ROOT / "bench" / "gpu" not in path.parents  # written by `make gpu-pack`
)


def test_importing_motc_and_its_compiler_imports_no_torch() -> None:
    program = (
        "import sys, motc, motc.driver, motc.emit, motc.cost, motc.diff;"
        "sys.exit(' '.join(name for name in ('torch', 'rich', 'typer') if name in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_checking_a_spec_from_the_command_line_imports_no_torch() -> None:
    program = (
        "import sys; from motc.cli import main; sys.argv = ['motc', 'check', 'specs/emoji_mot.mot']\n"
        "try: code = main()\n"
        "except SystemExit as stop: code = stop.code\n"
        "sys.exit(code or ('torch' if 'torch' in sys.modules else None))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_file_is_one_thing() -> None:
    """Longer than this it is two."""
    paths = [path for path in SOURCES if "golden" not in path.parts]
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert {path: count for path, count in lines.items() if count >= LONGEST} == {}


def test_every_folder_has_its_place_in_the_architecture() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    folders = [path.parent.name for path in sorted((ROOT / "motc").glob("*/__init__.py"))]
    assert [folder for folder in folders if f"`{folder}/`" not in text] == []


def test_each_decision_has_a_number_of_its_own() -> None:
    paths = sorted((ROOT / "docs" / "adr").glob("*.md"))
    titles = [path.read_text(encoding="utf-8").splitlines()[0].split(".")[0] for path in paths]
    assert titles == [f"# {number}" for number in range(1, len(paths) + 1)]
    assert [int(path.name[:4]) for path in paths] == list(range(1, len(paths) + 1))


def test_constraints_pin_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {requirement.split(">")[0].lower().replace("_", "-") for requirement in wanted}
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    assert names - pinned == set()


def test_a_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (__version__, project["license"])
    assert f": {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_a_workflow_runs_what_every_change_must_pass() -> None:
    (workflow,) = (ROOT / ".github" / "workflows").glob("*.yml")
    steps = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]["ci"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_what_holds_a_model_to_laws_is_marked() -> None:
    """Decision 64; validation's own tests, random specs and mistakes in general stay in `make test`."""
    apart = {"test_validate.py", "test_random_specs.py", "test_planted_errors.py"}
    unmarked = []
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module in ("tests.planted", "tests.fuzz.properties")
            for alias in node.names
        }
        for test in (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
            called = {
                node.func.id
                for node in ast.walk(test)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            marks = {ast.unparse(mark) for mark in test.decorator_list}
            if imported & called & LAWS and not marks & {"pytest.mark.laws", "pytest.mark.compiled"}:
                unmarked.append(f"{path.name}: {test.name}")
    assert [each for each in unmarked if each.partition(":")[0] not in apart] == []
