"""How fast stage 9 stores maps, audio reading included, and how large they are.

    OMP_NUM_THREADS=1 python benchmarks/stored_maps.py --work /tmp/stored_maps

Writes FLAC files of 2 to 14 s into --work (once), then stores the maps of --utterances of them, in
turns, with each classifier, at random weights: time and size do not depend on them. A round is one
set of maps for each classifier. Prints a Markdown table: speed by the clock and by the processor
(of one core, which other work on the machine disturbs less), and the size of 100,000 maps.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from espnet_saliency.saliency.stored import write_maps  # noqa: E402

FS = 16000
FILES = 200
CONFIGS = {
    "small": ROOT / "conf/small/train_accent_resnet.yaml",
    "full": ROOT / "conf/train_accent_resnet.yaml",
}


def write_data(folder: Path, utterances: int) -> float:
    """A dump folder over FILES files of noise with the rhythm of syllables; its duration in s."""
    seconds = np.random.default_rng(0).permutation(np.linspace(2.0, 14.0, FILES))
    folder.mkdir(parents=True, exist_ok=True)
    for number, length in enumerate(seconds):
        path = folder / f"{number}.flac"
        if not path.exists():
            time_s = np.arange(int(length * FS)) / FS
            noise = np.random.default_rng(number).standard_normal(len(time_s))
            noise *= np.exp(-time_s % 0.25 * 12)
            soundfile.write(path, 0.3 * noise / np.abs(noise).max(), FS)
    rows = [(f"utt{n:06d}", n % FILES) for n in range(utterances)]
    samples = [int(length * FS) for length in seconds]
    (folder / "wav.scp").write_text("".join(f"{u} {folder / f'{f}.flac'}\n" for u, f in rows))
    (folder / "utt2num_samples").write_text("".join(f"{u} {samples[f]}\n" for u, f in rows))
    return sum(samples[f] for _, f in rows) / FS


def write_classifier(config: Path, folder: Path) -> Path:
    """Experiment of an untrained classifier of 12 accents."""
    from espnet2.tasks.cls import CLSTask
    from espnet_saliency import plugin

    plugin.register(["cls"])
    arguments = CLSTask.get_parser().parse_args(["--config", str(config)])
    arguments.token_list = [f"accent{n}" for n in range(12)] + ["<unk>"]
    torch.manual_seed(0)
    model = CLSTask.build_model(arguments)
    keys = ("token_list", "input_size", "init", "model", "model_conf")
    parts = ("frontend", "normalize", "preencoder", "encoder", "decoder")
    keys += tuple(name for part in parts for name in (part, f"{part}_conf"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({k: getattr(arguments, k) for k in keys}))
    torch.save(model.state_dict(), folder / "valid.acc.ave.pth")
    return folder


def processor_seconds() -> float:
    """Of this process and of those that it has started and that have ended."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("stored_maps"))
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--classifiers", nargs="+", default=list(CONFIGS), choices=CONFIGS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nj", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    work = options.work.absolute()
    data = work / "dump"
    duration = write_data(data, options.utterances)
    experiments = {
        name: write_classifier(CONFIGS[name], work / name) for name in options.classifiers
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in experiments}
    for _ in range(options.rounds):
        for name, experiment in experiments.items():
            folder = work / f"maps_{name}"
            shutil.rmtree(folder, ignore_errors=True)
            start = time.perf_counter(), processor_seconds()
            write_maps(experiment, data, folder, device=options.device, nj=options.nj)
            clock, processor = time.perf_counter() - start[0], processor_seconds() - start[1]
            taken[name].append((clock, processor))
    mean = duration / options.utterances
    print(
        f"torch {torch.__version__}, {options.device}, {options.nj} jobs, {options.utterances} "
        f"utterances of {mean:.1f} s on average, {options.rounds} rounds\n"
    )
    print(
        "| classifier | s | times real time | the same of one core | kB a map | 100,000 maps, MB |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, experiment in experiments.items():
        folder = work / f"maps_{name}"
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        each = size / options.utterances / 1000
        clock, processor = (median(times) for times in zip(*taken[name]))
        print(
            f"| {name} | {clock:.1f} | {duration / clock:.0f} | {duration / processor:.0f} | "
            f"{each:.2f} | {100 * each:.0f} |"
        )


if __name__ == "__main__":
    main()
