"""The lock, the package's metadata and what a wheel of it holds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked() -> dict[str, str]:
    """Package -> version of requirements.txt."""
    versions = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line.strip() and not line.strip().startswith("#"):
            match = re.fullmatch(r"([a-z0-9-]+)==([\w.]+)( ; .+)?", line)
            assert match, f"not a pin: {line}"
            versions[match[1]] = match[2]
    return versions


def test_lock_carries_no_address():
    for name in ("requirements.txt", "requirements-build.txt"):
        text = (ROOT / name).read_text()
        assert "://" not in text and "--" not in text and "@" not in text


def test_lock_pins_the_set_that_fits_together():
    versions = locked()
    assert versions["espnet"] == "202511"
    assert versions["torch"] == versions["torchaudio"] == "2.11.0"
    assert versions["torchvision"] == "0.26.0"
    assert int(versions["setuptools"].split(".")[0]) < 74


def test_lock_holds_every_declared_dependency():
    declared = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]
    names = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in declared}
    assert names <= locked().keys()


def test_plain_dependencies_leave_torch_and_espnet_to_the_environment():
    """So that an environment which has them keeps its own, and pip can install the package."""
    assert not {"torch", "torchaudio", "torchvision", "espnet"} & {
        re.match(r"[\w-]+", requirement)[0] for requirement in PROJECT["dependencies"]
    }


def test_wheel_holds_the_package_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    for folder in ("espnet_saliency", "tests/setup", "conf"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", source)
    (source / "espnet_saliency" / "scoring" / "probe.html").write_text("<p>")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("espnet_saliency-*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (source / "espnet_saliency").rglob("*")
    expected = {
        str(file.relative_to(source))
        for file in files
        if file.suffix in (".py", ".html", ".css", ".js")
    }
    assert names == expected


def test_missing_espnet_is_said_in_one_line():
    code = "from espnet_saliency.dependencies import require_espnet; require_espnet()"
    # -S: an interpreter without installed packages.
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    line = done.stderr.splitlines()[-1]
    assert line.startswith("espnet_saliency.errors.UserError: torch, torchaudio, espnet2")
    assert sys.executable in line and "run.sh" in line


def test_present_espnet_passes():
    from espnet_saliency.dependencies import require_espnet

    require_espnet()
