"""Which classifier? Accuracy on unheard speakers against what a map of it costs.

    OMP_NUM_THREADS=1 python benchmarks/classifier_cost.py --work /tmp/classifier_cost

Generates the miniature corpus in --work, trains every encoder below on it with the schedule of
conf/small/train_accent_resnet.yaml (stages 1 to 8 of the recipe; what is finished is not trained
again), then times their maps in turn in one process. Prints a Markdown table. With --untrained the
encoders have random weights, and the table what they cost and no accuracy: minutes in place of hours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from espnet_saliency.accent.classifier import AccentClassifier  # noqa: E402
from espnet_saliency.saliency.cam import saliency_map  # noqa: E402

ENCODERS = {
    "small": ("accent_resnet", {"channels": [16, 32], "blocks": 1, "stem_stride": [4, 4]}),
    "medium": ("accent_resnet", {"channels": [16, 32, 64], "blocks": 1, "stem_stride": [2, 4]}),
    "large": ("accent_resnet", {"channels": [32, 64, 128], "blocks": 2, "stem_stride": [2, 2]}),
    "espnet_resnet18": ("espnet_resnet", {"resnet_type": "resnet18", "m_channels": 8}),
}


def write_config(name: str, work: Path) -> Path:
    """conf/small/train_accent_resnet.yaml with another encoder."""
    config = yaml.safe_load((ROOT / "conf/small/train_accent_resnet.yaml").read_text())
    config["encoder"], config["encoder_conf"] = ENCODERS[name]
    path = work / f"train_accent_{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def build(name: str, work: Path) -> AccentClassifier:
    """One encoder with random weights, for the eight accents of the corpus."""
    from espnet2.tasks.cls import CLSTask

    from espnet_saliency import plugin

    plugin.register(["cls"])
    arguments = CLSTask.get_parser().parse_args(["--config", str(write_config(name, work))])
    arguments.token_list = [f"accent{i}" for i in range(8)] + ["<unk>"]
    return AccentClassifier(CLSTask.build_model(arguments))


def train(name: str, work: Path) -> tuple[Path, dict]:
    """Experiment folder of one encoder, trained, and its figures on the test set."""
    path = write_config(name, work)
    command = [
        sys.executable, "-m", "espnet_saliency.recipe", "--corpus", "mini_accent",
        "--corpus_dir", str(work / "corpus"), "--accent_config", str(path),
        "--datadir", str(work / "data"), "--dumpdir", str(work / "dump"),
        "--expdir", str(work / "exp"), "--stage", "1", "--stop_stage", "8",
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
    experiment = work / "exp" / f"accent_{path.stem}_raw"
    results = json.loads((experiment / "eval" / "results.json").read_text())
    return experiment, results["sets"]["test"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("classifier_cost"))
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=ENCODERS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--untrained", action="store_true", help="cost alone")
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    figures: dict[str, dict] = {}
    classifiers = {}
    for name in options.encoders:
        if options.untrained:
            classifiers[name] = build(name, work)
        else:
            path, figures[name] = train(name, work)
            classifiers[name] = AccentClassifier.load(path)
    # 16 utterances of up to 4 s, as in a training step of the small recogniser.
    lengths = torch.linspace(120, 250, 16).long()
    feats = torch.randn(16, 250, 80, generator=torch.Generator().manual_seed(0)) * 2 - 6
    seconds: dict[str, list[float]] = {name: [] for name in classifiers}
    for _ in range(options.rounds + 2):
        for name, classifier in classifiers.items():
            start = time.perf_counter()
            saliency_map(classifier, feats, lengths)
            seconds[name].append(time.perf_counter() - start)
    first = next(iter(seconds))
    print("| encoder | parameters | map of a batch, ms | ratio | balanced accuracy, % | macro F1, % |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, classifier in classifiers.items():
        accuracy, f1 = (
            f"{100 * figures[name][key]:.1f}" if figures else "–"
            for key in ("balanced_accuracy", "macro_f1")
        )
        ratio = median(a / b for a, b in zip(seconds[name][2:], seconds[first][2:]))
        count = sum(p.numel() for p in classifier.parameters())
        print(
            f"| {name} | {count:,} | {1000 * median(seconds[name][2:]):.1f} | {ratio:.2f} | "
            f"{accuracy} | {f1} |"
        )


if __name__ == "__main__":
    main()
