"""Time a training step of a recogniser with each augmentation, in turn, in one process.

    python benchmarks/overhead.py                                      the small models, on a CPU
    python benchmarks/overhead.py --device cuda --batch_size 32 --seconds 15 \\
        --asr_config conf/train_asr_conformer.yaml --accent_config conf/train_accent_resnet.yaml

One model, one batch and one optimiser serve all arms; only the augmentation changes. A round is
one step of each arm, in an order drawn anew, so that drifts of the machine hit all arms alike. The
table has the median step of each arm and the median over rounds of its ratio to the first arm's;
the same for processor time, which another program on the machine disturbs less. Where steps are so
long that their noise hides the difference, look at the last columns: processor time of the forward
pass of the augmentation alone, and how much more of the first arm's step that is than its own.

The arms' conf/aug files hold, with the accent classifier of `--accent_config` at random weights:
time does not depend on them. Utterances take part with `apply_prob` as in training. An arm with
`_stored` behind its name reads stored maps, which ESPnet's loaders would have read beforehand.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
STORED = "_stored"
ALONE = 5
"""Passes of the augmentation alone for each step."""
ARMS = (
    "specaug", "none", "saliency", "saliency_specaug", f"saliency_specaug{STORED}", "random",
    "random_specaug",
)  # fmt: skip


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--arms", nargs="+", default=ARMS, help="the first is what the others are held to"
    )
    parser.add_argument(
        "--asr_config",
        type=Path,
        default=ROOT / "conf/small/train_asr_conformer.yaml",
    )
    parser.add_argument(
        "--accent_config", type=Path, default=ROOT / "conf/small/train_accent_resnet.yaml"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch_size", type=int, default=16, help="utterances")
    parser.add_argument("--seconds", type=float, default=4.0, help="longest utterance of the batch")
    parser.add_argument("--rounds", type=int, default=15, help="steps of each arm")
    parser.add_argument("--warmup", type=int, default=2, help="rounds that are not counted")
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision, bfloat16")
    return parser.parse_args(arguments)


def build_recogniser(config: Path) -> torch.nn.Module:
    """The ASR model of an ESPnet training config, with 500 tokens and no augmentation."""
    from espnet2.tasks.asr import ASRTask

    arguments = ASRTask.get_parser().parse_args(["--config", str(config)])
    arguments.token_list = ["<blank>", "<unk>", *(f"t{i}" for i in range(497)), "<sos/eos>"]
    arguments.specaug, arguments.normalize = None, "utterance_mvn"
    return ASRTask.build_model(arguments)


def build_classifier(config: Path):
    """The accent classifier of an ESPnet cls config, at random weights, with 12 classes."""
    from espnet2.tasks.cls import CLSTask

    from espnet_saliency import plugin
    from espnet_saliency.accent.classifier import AccentClassifier

    plugin.register(["cls"])
    arguments = CLSTask.get_parser().parse_args(["--config", str(config)])
    arguments.token_list = [f"accent{i}" for i in range(12)] + ["<unk>"]
    return AccentClassifier(CLSTask.build_model(arguments))


def build_augmentation(arm: str, classifier, folder: Path) -> torch.nn.Module | None:
    """What conf/aug/<arm>.yaml says; with stored maps, `folder` is their archive's."""
    from espnet2.asr.specaug.specaug import SpecAug

    from espnet_saliency.saliency.specaug import SaliencySpecAug

    conf = yaml.safe_load((ROOT / "conf/aug" / f"{arm.removesuffix(STORED)}.yaml").read_text(encoding="utf-8"))
    if conf["specaug"] is None:
        return None
    if conf["specaug"] == "specaug":
        return SpecAug(**conf["specaug_conf"])
    if arm.endswith(STORED):
        return SaliencySpecAug(**conf["specaug_conf"], stored_maps=str(folder))
    augmentation = SaliencySpecAug(**{"classifier": "random weights", **conf["specaug_conf"]})
    augmentation.use(classifier)
    return augmentation


def make_batch(size: int, seconds: float, device: str) -> dict[str, torch.Tensor]:
    """Noise of 70 to 100 % of `seconds`, 3 tokens a second."""
    lengths = (torch.linspace(0.7, 1.0, size).flip(0) * seconds * 16000).long()
    speech = torch.randn(size, int(lengths.max())) * 0.1
    tokens = (lengths * 3 // 16000).clamp_min(1)
    text = torch.randint(2, 490, (size, int(tokens.max())))
    text.masked_fill_(torch.arange(text.size(1)) >= tokens[:, None], -1)
    batch = dict(speech=speech, speech_lengths=lengths, text=text, text_lengths=tokens)
    return {key: value.to(device) for key, value in batch.items()}


def store_maps(classifier, model, batch: dict, folder: Path) -> dict[str, torch.Tensor]:
    """The data stream of the batch's maps, and in `folder` what an archive says of them."""
    from espnet_saliency.saliency.cam import class_activation
    from espnet_saliency.saliency.map_settings import MapSettings
    from espnet_saliency.saliency.maps import scale01
    from espnet_saliency.saliency.stored import FORMAT

    with torch.no_grad():
        cam = class_activation(classifier, *model.frontend(batch["speech"], batch["speech_lengths"]))
    about = {
        "format": FORMAT,
        **dataclasses.asdict(MapSettings()),
        "digest": classifier.digest,
        "features": dataclasses.asdict(classifier.features),
        "accents": classifier.accents,
        "stride": cam.stride,
    }
    (folder / "maps.json").write_text(json.dumps(about), encoding="utf-8")
    return {"saliency": scale01(cam.map, cam.lengths), "saliency_lengths": cam.lengths}


class Measured(NamedTuple):
    """What was measured, by arm."""

    steps: dict[str, list[tuple[float, float]]]
    """Wall clock and processor seconds of each step."""
    alone: dict[str, list[float]]
    """Processor seconds of the augmentation alone."""
    peak: dict[str, int]
    """Peak bytes on the GPU, 0 on a CPU."""


def measure(options: argparse.Namespace, folder: Path) -> Measured:
    torch.manual_seed(0)
    random.seed(0)
    cuda = options.device.startswith("cuda")
    model = build_recogniser(options.asr_config).to(options.device).train()
    classifier = build_classifier(options.accent_config).to(options.device)
    augmentations = {arm: build_augmentation(arm, classifier, folder) for arm in options.arms}
    batch = make_batch(options.batch_size, options.seconds, options.device)
    streams = store_maps(classifier, model, batch, folder)
    utterances = [f"utterance{n}" for n in range(options.batch_size)]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(arm: str) -> tuple[float, float]:
        model.specaug = augmentations[arm]
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter(), time.process_time()
        optimiser.zero_grad()
        if arm.endswith(STORED):
            model.specaug.receive(utterances, streams)
        with torch.autocast(options.device.split(":")[0], torch.bfloat16, enabled=options.amp):
            loss, _, _ = model(**batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start[0], time.process_time() - start[1]

    with torch.no_grad():
        feats, lengths = model.frontend(batch["speech"], batch["speech_lengths"])

    def augment(arm: str) -> float:
        if augmentations[arm] is None:
            return 0.0
        if arm.endswith(STORED):
            augmentations[arm].receive(utterances, streams)
        given = feats.clone()
        if cuda:
            torch.cuda.synchronize()
        start = time.process_time()
        augmentations[arm](given, lengths)
        if cuda:
            torch.cuda.synchronize()
        return time.process_time() - start

    alone: dict[str, list[float]] = {arm: [] for arm in options.arms}
    seconds: dict[str, list[tuple[float, float]]] = {arm: [] for arm in options.arms}
    peak = dict.fromkeys(options.arms, 0)
    for number in range(options.warmup + options.rounds):
        order = list(options.arms)
        random.shuffle(order)
        for arm in order:
            taken = step(arm)
            if number >= options.warmup:
                seconds[arm].append(taken)
                alone[arm] += [augment(arm) for _ in range(ALONE)]
                if cuda:
                    peak[arm] = max(peak[arm], torch.cuda.max_memory_allocated())
    return Measured(seconds, alone, peak)


def table(measured: Measured) -> str:
    """A Markdown table: median step, ratios to the first arm with quartiles, share, memory."""
    seconds, alone, peak = measured
    first = next(iter(seconds))
    reference = seconds[first]
    step = statistics.median(processor for _, processor in reference)
    memory = any(peak.values())
    head = ["arm", "step, ms", "wall clock, ratio", "quartiles", "processor, ratio", "quartiles"]
    head += ["alone, ms", "more than the first's, % of its step"]
    rows = [head + ["peak, MiB"] * memory, ["---"] + ["---:"] * (7 + memory)]
    for arm, times in seconds.items():
        row = [arm, f"{1000 * statistics.median(wall for wall, _ in times):.1f}"]
        for clock in (0, 1):
            ratios = [mine[clock] / its[clock] for mine, its in zip(times, reference)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            row += [f"{middle:.3f}", f"{low:.3f} to {high:.3f}"]
        mine, its = statistics.mean(alone[arm]), statistics.mean(alone[first])
        row += [f"{1000 * mine:.1f}", f"{100 * (mine - its) / step:+.2f}"]
        rows.append(row + [f"{peak[arm] / 2**20:.0f}"] * memory)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    machine = f"{torch.get_num_threads()} threads"
    if options.device.startswith("cuda"):
        machine = torch.cuda.get_device_name(options.device)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(options, Path(folder))
    print(
        f"torch {torch.__version__}, {options.device} ({machine}), {options.asr_config.name}, "
        f"{options.batch_size} utterances of up to {options.seconds:g} s, {options.rounds} rounds\n"
    )
    print(table(measured))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
