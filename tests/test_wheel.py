"""The wheel holds everything it needs: specs and building blocks come with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHECK_AND_BUILD = """
import sys
from pathlib import Path
import motc
from motc.cli import main
from motc.resources import specs_folder, templates

here = Path.cwd().resolve()
assert Path(motc.__file__).is_relative_to(here), motc.__file__
assert specs_folder() == here / "motc" / "_specs"
assert "attention.py" in templates() and not (here / "codegen_templates").exists()
spec = str(specs_folder() / "emoji_mot.mot")
for arguments in (["check", spec], ["build", spec, "-o", "built"], ["show", spec, "--html", "page.html"]):
    sys.argv = ["motc", *arguments]
    try:
        code = main()
    except SystemExit as stop:
        code = stop.code
    assert not code, (arguments, code)
"""


LARGEST = 1_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wheels = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(wheels)]
    subprocess.run([*command, str(ROOT)], check=True)
    (built,) = wheels.glob("motc-*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files, as site-packages would have them."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.compiled
def test_a_wheel_is_small_and_has_the_command_and_its_types(wheel: Path, unpacked: Path) -> None:
    assert wheel.stat().st_size < LARGEST
    (entry_points,) = unpacked.glob("motc-*.dist-info/entry_points.txt")
    assert "motc = motc.cli:main" in entry_points.read_text(encoding="utf-8")
    assert (unpacked / "motc" / "py.typed").is_file()


@pytest.mark.compiled
def test_wheel_holds_the_building_blocks_and_the_specs_that_commands_read(unpacked: Path) -> None:
    blocks = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "codegen_templates").glob("*.py")}
    assert json.loads((unpacked / "motc" / "_templates.json").read_text(encoding="utf-8")) == blocks != {}
    specs = {
        name: text
        for name, text in files(ROOT / "specs").items()
        if not name.startswith("paper/") and not name.endswith(".md")
    }
    assert files(unpacked / "motc" / "_specs") == specs != {}


@pytest.mark.compiled
def test_wheel_checks_and_builds_a_shipped_spec(unpacked: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-c", CHECK_AND_BUILD]
    done = subprocess.run(command, cwd=unpacked, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (unpacked / "built" / "model.py").is_file()
    assert (unpacked / "page.html").is_file()


def files(folder: Path) -> dict[str, bytes]:
    """The contents of a folder's files by their path in it, without Python's caches."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
