"""Time stages 1 to 4 against lhotse on one corpus, in turn; or measure their memory.

    python benchmarks/data_preparation.py [--fs 16000] [--utterances 2000] [--nj 2] [--rounds 3]
    python benchmarks/data_preparation.py --memory [--sizes 10000 300000]

The corpus has LibriSpeech's layout, with noise in the place of speech, and is made in a temporary
folder. Both sides get from it to the same thing: Kaldi data directories, 16 kHz FLAC files, and no
training utterance that is too short or too long. Ours are the functions that the recipe's stages
call; they validate what they write, and list what they reject, besides. lhotse (`pip install
lhotse`) prepares its manifests, filters, resamples and saves the audio of a CutSet, and exports to
a Kaldi directory.

A round is one run of each side, the first side changing with every round. Processor time, that of
children too, is given beside the time on the clock: other programs on the machine disturb it less.

--memory makes LibriSpeech with that many utterances of 0.1 s (hard links to a few files) and runs
stages 1 to 4 in a process of its own, whose peak resident memory it prints.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Callable

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from espnet_saliency.corpora import librispeech  # noqa: E402
from espnet_saliency.datadir.audio import format_audio  # noqa: E402
from espnet_saliency.datadir.filter import filter_data_dir  # noqa: E402
from espnet_saliency.datadir.prepare import write_data_dir  # noqa: E402
from espnet_saliency.datadir.rejection import RejectionLog  # noqa: E402
from espnet_saliency.datadir.validate import validate_data_dir  # noqa: E402

FS = 16_000
LIMITS = (0.05, 20.0)
"""Durations that stay in train and dev, in s."""
PARTS = {"train": "train-clean-100", "dev": "dev-clean", "test_clean": "test-clean"}
SHARES = {"train": 0.9, "dev": 0.05, "test_clean": 0.05}
IN_CHAPTER = 50
# A file system allows some ten thousand names for one file.
LINKS = 10_000


def make_corpus(folder: Path, utterances: int, seconds: tuple[float, float], fs: int) -> Path:
    """LibriSpeech of noise; utterances of the same length are names for the same file."""
    audio = folder / "audio"
    audio.mkdir(parents=True)
    draw = np.random.default_rng(1)
    files = 100
    for n in range(files):
        length = seconds[0] + (seconds[1] - seconds[0]) * n / files
        smooth = np.convolve(draw.normal(size=round(length * fs)), np.ones(8) / 8, "same")
        soundfile.write(audio / f"{n}.flac", 0.2 * smooth, fs)
    root = folder / "LibriSpeech"
    number = 0
    for p, (name, part) in enumerate(PARTS.items()):
        lines: list[str] = []
        for n in range(round(utterances * SHARES[name])):
            speaker = str(1000 * (p + 1) + n // IN_CHAPTER)
            chapter = root / part / speaker / "1"
            if n % IN_CHAPTER == 0:
                chapter.mkdir(parents=True)
                lines = []
            name = f"{speaker}-1-{n % IN_CHAPTER:04d}"
            source = audio / f"{number % files}.flac"
            if source.stat().st_nlink >= LINKS:
                shutil.copyfile(source, audio / "copy")
                os.replace(audio / "copy", source)
            os.link(source, chapter / f"{name}.flac")
            lines.append(f"{name} SOME WORDS OF UTTERANCE {name}\n")
            (chapter / f"{speaker}-1.trans.txt").write_text("".join(lines))
            number += 1
    return root


def ours(corpus_dir: Path, out: Path, nj: int) -> int:
    """Stages 1 to 4; the samples in all formatted sets."""
    options = librispeech.Options(*((part,) for part in PARTS.values()))
    corpus = librispeech.prepare(corpus_dir, options, seed=1)
    with RejectionLog(out / "data" / "rejected.tsv") as log:
        for name, utterances in corpus.sets.items():
            write_data_dir(out / "data" / name, utterances, log, nj)
            validate_data_dir(out / "data" / name)
        log.extend(corpus.rejected)
    for name in PARTS:
        test = name.startswith("test")
        target = out / "dump" / name if test else out / "dump" / "org" / name
        format_audio(out / "data" / name, target, FS, nj)
        if not test:
            filter_data_dir(target, out / "dump" / name, *LIMITS)
    return _samples(out / "dump" / name / "utt2num_samples" for name in PARTS)


def _samples(tables) -> int:
    return sum(int(line.split()[1]) for table in tables for line in open(table, encoding="utf-8"))


def lhotses(corpus_dir: Path, out: Path, nj: int) -> int:
    """The same by lhotse."""
    from lhotse import CutSet
    from lhotse.kaldi import export_to_kaldi
    from lhotse.recipes import prepare_librispeech

    parts = tuple(PARTS.values())
    manifests = prepare_librispeech(corpus_dir, dataset_parts=parts, num_jobs=nj)
    samples = 0
    for name, part in PARTS.items():
        cuts = CutSet.from_manifests(**manifests[part])
        if not name.startswith("test"):
            cuts = cuts.filter(_within_limits)
        cuts = cuts.resample(FS).to_eager()
        # With a number of jobs, even 1, it starts processes, and each of them imports torch.
        jobs = nj if nj > 1 else None
        saved = cuts.save_audios(out / "audio" / name, "flac", num_jobs=jobs, progress_bar=False)
        saved = saved.to_eager()
        recordings, supervisions, _ = saved.decompose(verbose=False)
        export_to_kaldi(recordings.to_eager(), supervisions.to_eager(), out / "data" / name)
        samples += sum(recording.num_samples for recording in recordings)
    return samples


def _within_limits(cut) -> bool:
    return LIMITS[0] <= cut.duration <= LIMITS[1]


def measure(side: Callable, corpus_dir: Path, folder: Path, nj: int) -> tuple[float, float, int]:
    """Clock and processor time of one run, in s, and the samples that it wrote."""
    out = folder / side.__name__
    out.mkdir()
    before, start = _processor(), time.perf_counter()
    with open(os.devnull, "w") as null, redirect_stdout(null), redirect_stderr(null):
        samples = side(corpus_dir, out, nj)
    elapsed = time.perf_counter() - start
    used = _processor() - before
    shutil.rmtree(out)
    return elapsed, used, samples


def _processor() -> float:
    usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Print a table of the two sides."""
    warnings.simplefilter("ignore")
    corpus_dir = make_corpus(folder, options.utterances, (1.0, 5.0), options.fs)
    sides = [ours, lhotses]
    small = make_corpus(folder / "small", 60, (0.2, 0.3), options.fs)
    for side in sides:  # imports, and what is compiled at first use
        measure(side, small, folder, options.nj)
    found: dict[str, list[tuple[float, float, int]]] = {side.__name__: [] for side in sides}
    for number in range(options.rounds):
        for side in sides[:: 1 if number % 2 else -1]:
            found[side.__name__].append(measure(side, corpus_dir, folder, options.nj))
    written = {samples for runs in found.values() for *_, samples in runs}
    if len(written) > 1:
        raise SystemExit(f"the two sides wrote different numbers of samples: {sorted(written)}")
    print(
        f"{options.utterances} utterances, {written.pop() / FS / 3600:.2f} h, FLAC at "
        f"{options.fs} Hz to {FS} Hz, --nj {options.nj}, medians of {options.rounds} rounds:\n\n"
        "| | clock, s | processor, s |\n| --- | ---: | ---: |"
    )
    for name, side in (("lhotse", lhotses), ("stages 1 to 4", ours)):
        clock, used, _ = map(statistics.median, zip(*found[side.__name__]))
        print(f"| {name} | {clock:.2f} | {used:.2f} |")
    pairs = list(zip(found["lhotses"], found["ours"]))
    ratios = [statistics.median(theirs[i] / mine[i] for theirs, mine in pairs) for i in (0, 1)]
    print(f"| lhotse / ours | {ratios[0]:.2f} | {ratios[1]:.2f} |")


def memory(options: argparse.Namespace, folder: Path) -> None:
    """Print a table of peak memory by number of utterances."""
    print("| utterances | peak resident memory, MB | time, s |\n| ---: | ---: | ---: |")
    for size in options.sizes:
        corpus_dir = make_corpus(folder / str(size), size, (0.1, 0.11), FS)
        command = [sys.executable, __file__, "--child", str(corpus_dir), "--nj", str(options.nj)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        kilobytes, seconds = json.loads(done.stdout.splitlines()[-1])
        print(f"| {size} | {kilobytes / 1024:.0f} | {seconds:.0f} |", flush=True)
        shutil.rmtree(folder / str(size))


def child(corpus_dir: Path, nj: int) -> None:
    """Stages 1 to 4; the last line tells the peak memory (kB) and the time (s)."""
    start = time.perf_counter()
    ours(corpus_dir, corpus_dir.parent / "out", nj)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([peak, time.perf_counter() - start]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--fs", type=int, default=FS, help="sampling rate of the corpus, in Hz")
    parser.add_argument("--nj", type=int, default=2, help="threads here, processes there")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="measure memory, not time")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 300_000])
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.nj)
        return
    with tempfile.TemporaryDirectory() as folder:
        (memory if options.memory else compare)(options, Path(folder))


if __name__ == "__main__":
    main()
