"""path.sh and run.sh, run for real on a small checkout whose packages are wheels in a folder.

The stand-in is the checkout's lock: a package made here, instead of 5 GB from the network.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHELL_FILES = ["path.sh", "run.sh", "local/make_environment.sh", "egs2/mini_accent/asr1/run.sh"]
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "espnet-saliency"
version = "0"
dependencies = {dependencies}
[tool.setuptools.packages.find]
include = ["espnet_saliency*"]
"""
ECHO = "import json, os, sys\nprint(json.dumps([os.getcwd(), sys.prefix, sys.argv[1:]]))\n"


def write_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> None:
    """A wheel of these files, with the record of them that installers want."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **files,
    }
    record = ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o100755 << 16
            wheel.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record += f"{path},sha256={digest.decode()},{len(content)}\n"
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")


def wheel_of_installed(folder: Path, name: str) -> str:
    """The installed package as a wheel again. Returns its version."""
    package = importlib.metadata.distribution(name)
    files = {}
    for file in package.files or []:
        path = Path(os.path.normpath(package.locate_file(file)))
        if file.suffix == ".pyc" or file.name in ("RECORD", "INSTALLER", "REQUESTED"):
            continue
        inside = ".." not in file.parts
        target = str(file) if inside else f"{name}-{package.version}.data/scripts/{path.name}"
        files[target] = path.read_bytes()
    write_wheel(folder, name, package.version, files)
    return package.version


@dataclass
class Shelf:
    """A folder of wheels, the only source of packages, and a home without settings."""

    folder: Path
    lock: str

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "PYTHON"))}
        kept["PATH"] = os.pathsep.join(
            [os.path.dirname(os.path.realpath(sys.executable)), kept["PATH"]]
        )
        return kept | {
            "PYTHON": os.path.realpath(sys.executable),
            "HOME": str(self.folder),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.folder),
        }

    def index(self, name: str, *wheels: str) -> str:
        """A package index of wheels that match a pattern. Returns its address."""
        for wheel in (file for pattern in wheels for file in self.folder.glob(pattern)):
            package = self.folder / name / wheel.name.split("-")[0]
            package.mkdir(parents=True, exist_ok=True)
            with open(package / "index.html", "a") as page:
                page.write(f'<a href="{wheel.as_uri()}">{wheel.name}</a>\n')
        return (self.folder / name).as_uri()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Shelf:
    folder = tmp_path_factory.mktemp("shelf")
    wheel_of_installed(folder, "uv")
    setuptools = wheel_of_installed(folder, "setuptools")
    for version in ("1.0", "2.0"):
        write_wheel(folder, "tiny", version, {"tiny.py": f"version = {version!r}\n".encode()})
    poor = folder / "poor"
    poor.mkdir()
    write_wheel(poor, "tiny", "1.0", {"tiny.py": b"version = 'the poor one'\n"})
    return Shelf(folder, f"setuptools=={setuptools}\ntiny==1.0\n")


@dataclass
class Clone:
    """A small checkout, and ways to use it."""

    root: Path
    shelf: Shelf

    def enter(self, then: str = "true", **options) -> subprocess.CompletedProcess:
        """Sources path.sh in a new shell, then runs a command in it."""
        options["env"] = self.shelf.environment() | options.get("env", {})
        command = ["bash", "-c", f'. "$1/path.sh" && {then}', "bash", str(self.root)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)

    def run(self, script: str | Path, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Starts one of its scripts."""
        return subprocess.run(
            [str(self.root / script), *arguments],
            capture_output=True, text=True, timeout=120, env=self.shelf.environment(), **options,
        )  # fmt: skip

    def lock(self, text: str) -> None:
        (self.root / "requirements.txt").write_text(text)


def make_clone(root: Path, shelf: Shelf, dependencies: list[str] | None = None) -> Clone:
    for name in SHELL_FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / "requirements-build.txt").touch()
    (root / "pyproject.toml").write_text(PYPROJECT.format(dependencies=dependencies or []))
    recipe = root / "espnet_saliency" / "recipe"
    recipe.mkdir(parents=True)
    (recipe.parent / "__init__.py").touch()
    (recipe / "__init__.py").touch()
    (recipe / "__main__.py").write_text(ECHO)
    clone = Clone(root, shelf)
    clone.lock(shelf.lock)
    return clone


@pytest.fixture
def clone(tmp_path, shelf) -> Clone:
    return make_clone(tmp_path / "a clone", shelf)


@pytest.fixture(scope="module")
def made(tmp_path_factory, shelf) -> Clone:
    """A checkout whose environment was made under hostile circumstances, from another folder."""
    base = tmp_path_factory.mktemp("made")
    hostile = base / "hostile"
    hostile.mkdir()
    (hostile / "tiny.py").write_text("raise SystemExit('the wrong tiny')\n")
    (hostile / "venv.py").write_text("raise SystemExit('the wrong venv')\n")
    clone = make_clone(base / "a clone", shelf)
    settings = base / "pip.conf"
    settings.write_text(
        "[global]\n"
        f"index-url = {shelf.index('mirror', 'uv-*', 'tiny-1*')}\n"
        f"extra-index-url = {shelf.index('more', 'setuptools-*', 'tiny-2*', 'poor/tiny-1*')}\n"
    )
    strange = {
        "PIP_CONFIG_FILE": str(settings),
        "PIP_NO_INDEX": "",
        "PIP_FIND_LINKS": "",
        "PYTHONPATH": str(hostile),
        "PYTHONHOME": str(hostile),
        "VIRTUAL_ENV": str(hostile),
        "PIP_USER": "1",
        "PIP_TARGET": str(hostile / "target"),
        "UV_SYSTEM_PYTHON": "1",
        "CDPATH": str(base),
    }
    done = clone.enter("python -P -c 'import tiny; print(tiny.__file__)'", cwd=hostile, env=strange)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(clone.root / ".venv")), done.stdout
    assert not (hostile / "target").exists()
    (line,) = done.stderr.splitlines()
    assert "making .venv (first use" in line and "done in" in line
    assert str(clone.root / ".venv.log") in line
    return clone


def test_main_index_is_asked_before_the_extra_one(made):
    """Both have tiny 1.0. Of soundfile an extra index may have just the wheel without its library."""
    assert made.enter("python -c 'import tiny; print(tiny.version)'").stdout == "1.0\n"


def test_second_start_is_silent_and_fast_and_needs_nothing(made, tmp_path):
    start = time.monotonic()
    done = made.enter("command -v python", cwd=tmp_path, env={"PIP_FIND_LINKS": "/nowhere"})
    assert time.monotonic() - start < 1
    assert done.stderr == ""
    assert done.stdout == f"{made.root}/.venv/bin/python\n"


def test_sourcing_again_leaves_the_path_alone(made):
    once = made.enter('echo "$PATH"').stdout
    assert made.enter('. "$1/path.sh" && echo "$PATH"').stdout == once


def test_run_reaches_python_with_its_arguments(made, tmp_path):
    (tmp_path / "espnet_saliency.py").write_text("raise SystemExit('the wrong package')\n")
    (tmp_path / "my run").symlink_to(made.root / "run.sh")
    for script in ("run.sh", tmp_path / "my run"):
        done = made.run(script, "--corpus_dir", "a b", "", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        folder, prefix, arguments = json.loads(done.stdout)
        assert folder == str(tmp_path)
        assert prefix == str(made.root / ".venv")
        assert arguments == ["--corpus_dir", "a b", ""]


def test_recipe_folder_fills_in_its_corpus(made, tmp_path):
    (tmp_path / "link.sh").symlink_to(made.root / "egs2/mini_accent/asr1/run.sh")
    for script in ("egs2/mini_accent/asr1/run.sh", tmp_path / "link.sh"):
        done = made.run(script, "--stage", "2", cwd=tmp_path)
        assert json.loads(done.stdout)[2] == ["--corpus", "mini_accent", "--stage", "2"]


def test_two_at_once_make_one(clone):
    command = ["bash", "-c", '. "$1/path.sh" && python -c "import tiny"', "bash", str(clone.root)]
    starts = [
        subprocess.Popen(command, env=clone.shelf.environment(), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = sorted(start.communicate(timeout=120)[1] for start in starts)
    assert [start.returncode for start in starts] == [0, 0], said
    assert said[0] == "path.sh: another start is making .venv; waiting for it\n"
    assert "first use" in said[1] and "done in" in said[1]


def test_killed_installation_is_made_again_and_a_moved_clone_too(clone):
    start = subprocess.Popen(
        ["bash", str(clone.root / "path.sh")],
        env=clone.shelf.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (clone.root / ".venv/bin/python").exists():
        assert start.poll() is None
        time.sleep(0.01)
    os.killpg(start.pid, signal.SIGKILL)
    start.wait()
    (clone.root / ".venv/left over").touch()

    done = clone.enter("python -c 'import tiny'")
    assert done.returncode == 0, done.stderr
    assert "afresh, as the last installation did not finish" in done.stderr
    assert not (clone.root / ".venv/left over").exists()

    clone.root = clone.root.rename(clone.root.with_name("moved clone"))
    done = clone.run("run.sh")
    assert done.returncode == 0, done.stderr
    assert "afresh, as this folder was moved or copied" in done.stderr
    assert json.loads(done.stdout)[1] == str(clone.root / ".venv")


def test_requirements_are_followed_and_a_broken_lock_stops_with_its_reason(clone):
    assert clone.enter().returncode == 0
    (clone.root / ".venv/kept").touch()
    clone.lock(clone.shelf.lock.replace("tiny==1.0", "tiny==2.0"))
    done = clone.enter("python -c 'import tiny; print(tiny.version)'")
    assert "the requirements have changed" in done.stderr
    assert done.stdout == "2.0\n"
    assert (clone.root / ".venv/kept").exists()

    clone.lock(clone.shelf.lock + "absent==3.1\n")
    done = clone.run("run.sh")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "failed after" in done.stderr and "absent" in done.stderr
    assert str(clone.root / ".venv.log") in done.stderr.splitlines()[-1]
    assert "absent" in (clone.root / ".venv.log").read_text()

    clone.lock(clone.shelf.lock)
    done = clone.enter("python -c 'import tiny; print(tiny.version)'")
    assert "did not finish" in done.stderr
    assert done.stdout == "1.0\n"


def test_lock_that_lacks_a_dependency_is_refused(tmp_path, shelf):
    clone = make_clone(tmp_path / "a clone", shelf, dependencies=["forgotten"])
    done = clone.enter()
    assert done.returncode == 1
    assert "requires `forgotten`" in done.stderr


def test_python_that_cannot_run_is_passed_over(clone, tmp_path):
    """Like pyenv's shims of versions that are not switched on: found, but failing."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for tool in "bash readlink dirname sha256sum cat head flock tail".split():
        (bin_folder / tool).symlink_to(shutil.which(tool))
    shim = bin_folder / "python3.12"
    shim.write_text(f"#!{shutil.which('bash')}\nexit 127\n")
    shim.chmod(0o755)
    done = clone.enter(env={"PATH": str(bin_folder), "PYTHON": ""})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "no Python 3.11 or 3.12" in line and "PYTHON=" in line

    done = clone.enter("python -c 'import tiny'", env={"PYTHON": str(shim)})
    assert done.returncode == 0, done.stderr
    assert f"PYTHON={shim} is no Python 3.11 or 3.12" in done.stderr.splitlines()[0]
