"""Steps: what depends on what, what is finished, and what has to be done again.

A stage is one or more steps. A finished step leaves a stamp (JSON) beside what it wrote, with a
fingerprint of its inputs: its options, the digests of the files it read, and the fingerprints of
the steps it needs. The same fingerprint means that there is nothing to do.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Sequence

from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.progress import duration


@dataclass(frozen=True)
class Step:
    """One piece of work of a stage."""

    stage: int
    name: str
    """What it works on, in a word or two: a set, an arm; unique in its stage."""
    folder: Path
    """Where it writes; its stamp lies there too."""
    run: Callable[[], None]
    inputs: dict[str, Any]
    """All that decides the result, apart from the steps it needs. Values that JSON can hold."""
    needs: tuple[Step, ...] = ()
    outputs: tuple[Path, ...] = ()
    """Files that are there when it is finished."""
    commands: tuple[str, ...] = ()
    """What it runs, for --dry_run."""
    owns_folder: bool = False
    """The folder holds nothing but this step's work and what comes of it. An unfinished run with the
    same inputs is resumed in it; one with other inputs is set aside as <folder>.previous."""
    replaces: tuple[Path, ...] = ()
    """Folders that it writes anew as a whole. Those that are there before its first run are somebody
    else's, and stop it."""

    @property
    def fingerprint(self) -> str:
        """Digest of the inputs, the needed steps' included."""
        content = [self.stage, self.name, self.inputs, [need.fingerprint for need in self.needs]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _stamp(self, kind: str) -> Path:
        return self.folder / ".stages" / f"{self.stage}-{self.name}.{kind}.json"

    def read_stamp(self, kind: str = "done") -> dict | None:
        """The stamp of the last run ("done", or "started" for one under way); None where there is none."""
        try:
            return json.loads(self._stamp(kind).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write_stamp(self, kind: str, seconds: float = 0.0) -> None:
        """Note that the step has "started" or is "done"."""
        with atomic_file(self._stamp(kind)) as handle:
            json.dump(
                {
                    "fingerprint": self.fingerprint,
                    "inputs": self.inputs,
                    "needs": {f"{n.stage}-{n.name}": n.fingerprint for n in self.needs},
                    "seconds": round(seconds, 2),
                },
                handle,
                indent=1,
                sort_keys=True,
            )

    def finished(self) -> bool:
        """Done with these very inputs, and what it wrote is still there."""
        stamp = self.read_stamp()
        return (
            stamp is not None
            and stamp["fingerprint"] == self.fingerprint
            and all(path.exists() for path in self.outputs)
        )

    def difference(self) -> str:
        """What differs from the last finished run, e.g. "nbpe 500, now 400"; "" where nothing is known."""
        stamp = self.read_stamp()
        if stamp is None:
            return ""
        then, now = _flat(stamp["inputs"]), _flat(json.loads(json.dumps(self.inputs)))
        changes = [
            f"{key} {_brief(then.get(key))}, now {_brief(now.get(key))}"
            for key in sorted({*then, *now})
            if then.get(key) != now.get(key)
        ]
        if not changes:
            changes = [
                f"stage {need.stage} ({need.name}) has changed"
                for need in self.needs
                if stamp["needs"].get(f"{need.stage}-{need.name}") != need.fingerprint
            ]
        return "; ".join(changes) or "files are missing"


def _flat(inputs: dict, prefix: str = "") -> dict[str, Any]:
    """{"config": {"max_epoch": 3}} -> {"config.max_epoch": 3}"""
    flat: dict[str, Any] = {}
    for key, value in inputs.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _brief(value: Any) -> str:
    if value is None:
        return "not set"
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 60 else f"{text[:57]}…"


@dataclass(frozen=True)
class Stage:
    """A numbered stage."""

    number: int
    title: str
    steps: Sequence[Step] = field(default_factory=tuple)
    parallel: int = 1
    """How many of its steps may run at the same time."""
    note: str = ""
    """Said instead of running, where there is nothing to do."""


def digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def check_order(stages: Sequence[Stage], titles: dict[int, str]) -> None:
    """Every step that lies before `stages` and is needed by them is finished, with the same options.

    Raises:
        UserError: one is not; the message names the stage to start from.
    """
    inside = {stage.number for stage in stages}
    for stage in stages:
        for step in stage.steps:
            if step.finished():
                continue
            for need in step.needs:
                if need.stage in inside or need.finished():
                    continue
                need = _first_unfinished(need)
                what = f"stage {need.stage} ({titles[need.stage]}, {need.name})"
                if need.read_stamp() is None:
                    why = "has not been run"
                else:
                    why = f"was run with other inputs ({need.difference()})"
                raise UserError(
                    f"stage {stage.number} needs {what}, which {why}: start with --stage {need.stage}"
                )


def _first_unfinished(step: Step) -> Step:
    """The step to begin with: `step`, or what it needs that is not finished either."""
    earlier = next((need for need in step.needs if not need.finished()), None)
    return step if earlier is None else _first_unfinished(earlier)


def run_stages(stages: Sequence[Stage], say: Callable[[str], None]) -> None:
    """Run the stages in order, leaving out the steps that are finished."""
    for stage in stages:
        say(f"Stage {stage.number}: {stage.title}")
        if stage.note:
            say(f"  {stage.note}")
        todo = []
        for step in stage.steps:
            if step.finished():
                say(f"  {step.name}: finished before with the same inputs, skipped")
            else:
                todo.append(step)
        if stage.parallel > 1 and len(todo) > 1:
            with ThreadPoolExecutor(max_workers=stage.parallel) as pool:
                # list() raises what a step raised, after those under way have ended.
                list(pool.map(lambda step: _run_step(step, say), todo))
        else:
            for step in todo:
                _run_step(step, say)


def _run_step(step: Step, say: Callable[[str], None]) -> None:
    if step.difference():
        say(f"  {step.name}: done again: {step.difference()}")
    started = step.read_stamp("started")
    if started is None and step.read_stamp() is None:
        _refuse_strangers(step.replaces)
    if step.owns_folder and (started is None or started["fingerprint"] != step.fingerprint):
        _set_aside(step.folder, say)
    if step.owns_folder or step.replaces:
        step.write_stamp("started")
    step._stamp("done").unlink(missing_ok=True)
    start = time.monotonic()
    step.run()
    missing = [path for path in step.outputs if not path.exists()]
    if missing:
        raise RuntimeError(f"stage {step.stage} ({step.name}) ended without writing {missing[0]}")
    seconds = time.monotonic() - start
    step.write_stamp("done", seconds)
    say(f"  {step.name}: done in {duration(seconds)}")


def _refuse_strangers(folders: Sequence[Path]) -> None:
    for folder in folders:
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(
                f"{folder}: is there already, and not made by this recipe, which would replace it: move it away, or "
                "name another folder"
            )


def _set_aside(folder: Path, say: Callable[[str], None]) -> None:
    if not folder.exists():
        return
    previous = folder.with_name(f"{folder.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    os.replace(folder, previous)
    say(f"  what {folder} held is kept as {previous.name}")
