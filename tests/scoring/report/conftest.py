"""A comparison like a real one, simulated: for the tests of the report, and for looking at it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_saliency.scoring.comparison import ArmDecode, compare, write_comparison
from espnet_saliency.scoring.conditions import label_conditions
from espnet_saliency.scoring.probe import ORDERS, PLAIN, Hiding, write_probe
from espnet_saliency.scoring.report import ReportInputs, write_report
from espnet_saliency.scoring.score_folder import score_decode
from espnet_saliency.scoring.sweep import Variant, write_sweep
from espnet_saliency.scoring.unseen import HeldOut, unseen_table, write_unseen

SEEN = ["American", "Caribbean", "Lancashire", "London", "New York", "Received Pronunciation",
        "Scottish", "West Midlands"]
UNSEEN = ["Afrikaans", "German", "Hindi", "Spanish"]
ARMS = {"specaug": 1.0, "saliency_specaug": 0.93, "random_specaug": 0.97}
WORDS = ("the a red green quick slow fox dog bird runs sees takes from over under "
         "seven nine box river door").split()


def build_comparison(
    accents=None, arms=None, speakers=24, words=40, seed=1, draws=400
) -> dict:
    """A comparison.json: words of each speaker misheard at the arm's share of the accent's rate."""
    accents = accents or {"test": SEEN, "test_unseen": UNSEEN}
    arms = arms or ARMS
    rng = np.random.default_rng(seed)
    sets = {
        name: {
            "utterances": speakers * 5 * len(names),
            "speakers": speakers * len(names),
            "words": speakers * words * len(names),
            "accents": sorted(names),
            **{m: _metric(rng, names, arms, speakers, words * k, 9.0 + 7 * place, m, draws)
               for m, k in (("wer", 1), ("cer", 4))},
        }
        for place, (name, names) in enumerate(accents.items())
    }
    return {
        "schema": 1,
        "corpus": "mini_accent",
        "baseline": next(iter(arms)),
        "arms": [
            {"name": arm, "experiment": f"exp/asr_conformer_{arm}", "decode": "decode_asr",
             "command": f"./run.sh --stage 11 --arms {arm}", "train_seconds": 148.0 + 3 * i}
            for i, arm in enumerate(arms)
        ],
        "metrics": ["wer", "cer"],
        "sets": sets,
        "worst_utterances": [
            _worst(rng, name, arm, accent, i)
            for name, names in accents.items() for arm in arms
            for i, accent in enumerate([*names, *names])
        ],
        "bootstrap": {"draws": draws, "seed": 2024, "unit": "speaker", "level": 0.95},
        "test": "matched-pairs sentence-segment word error test",
    }


def _metric(rng, accents, arms, speakers, words, rate, metric, draws) -> dict:
    hard = rate * (1 if metric == "wer" else 0.4) * rng.uniform(0.6, 1.6, len(accents))
    own = rng.gamma(6, 1 / 6, (len(accents), speakers))  # how hard each speaker is
    errors = {
        arm: rng.binomial(words, np.clip(own * hard[:, None] * factor / 100, 0, 0.9))
        for arm, factor in arms.items()
    }
    drawn = rng.integers(0, speakers, (draws, speakers))
    groups = {a: np.array([i]) for i, a in enumerate(accents)}
    groups = {"overall": np.arange(len(accents)), **groups}

    def rates(counts, members):  # the rate, and one for each draw
        spoken = words * speakers * len(members)
        return 100 * counts[members].sum() / spoken, 100 * (
            counts[members][:, drawn].sum((0, 2)) / spoken)

    def ends(values):
        return [round(float(x), 4) for x in np.percentile(values, [2.5, 97.5])]

    result = {}
    for arm, counts in errors.items():
        rows = {}
        for group, members in groups.items():
            rate_, sample = rates(counts, members)
            low, high = ends(sample)
            total, spoken = int(counts[members].sum()), words * speakers * len(members)
            sub, dele = total * 6 // 10, total * 3 // 10
            rows[group] = {
                "utterances": speakers * 5 * len(members), "speakers": speakers * len(members),
                "words": spoken, "hits": spoken - sub - dele, "sub": sub, "del": dele,
                "ins": total - sub - dele, "errors": total, "rate": rate_, "low": low, "high": high,
            }
        by = {a: rows[a]["rate"] for a in accents}
        worst = max(by, key=by.get)
        result[arm] = {"groups": rows, "macro": sum(by.values()) / len(by),
                       "worst": {"accent": worst, "rate": by[worst]},
                       "gap": max(by.values()) - min(by.values())}
    differences = []
    for reference, arm in itertools.combinations(arms, 2):
        rows = {}
        for group, members in groups.items():
            one, one_draws = rates(errors[arm], members)
            two, two_draws = rates(errors[reference], members)
            low, high = ends(one_draws - two_draws)
            spread = float((one_draws - two_draws).std()) or 1.0
            rows[group] = {
                "absolute": one - two, "low": low, "high": high,
                "relative": 100 * (one - two) / two,
                "p_value": float(np.exp(-0.72 * abs(one - two) / spread
                                        - 0.42 * ((one - two) / spread) ** 2)),
                "p_mapsswe": 0.5, "p_holm": None,
                "speakers": speakers * len(members), "small": speakers * len(members) < 10,
            }
        order = sorted(accents, key=lambda a: rows[a]["p_value"])  # Holm, step down
        for place, a in enumerate(order):
            before = rows[order[place - 1]]["p_holm"] if place else 0.0
            rows[a]["p_holm"] = min(1.0, max(before, rows[a]["p_value"] * (len(order) - place)))
        differences.append({"arm": arm, "reference": reference, "groups": rows})
    return {"arms": result, "differences": differences}


def _worst(rng, name, arm, accent, number) -> dict:
    said = list(rng.choice(WORDS, 9))
    alignment, heard = [], []
    for word in said:
        op = rng.choice(["=", "S", "D", "I"], p=[0.4, 0.35, 0.15, 0.1])
        other = str(rng.choice(WORDS))
        if op == "I":
            alignment.append(["I", "", other])
            op = "="
        alignment.append([str(op), str(word), {"=": str(word), "S": other, "D": ""}[op]])
    heard = [hyp for _, _, hyp in alignment if hyp]
    return {
        "set": name, "arm": arm, "utt_id": f"spk{number:03d}-{number * 7:04d}",
        "speaker": f"spk{number:03d}", "accent": accent, "reference": " ".join(map(str, said)),
        "hypothesis": " ".join(heard), "alignment": alignment,
        "errors": sum(op != "=" for op, _, _ in alignment), "words": len(said),
    }


def build_classifier(accents=SEEN, skill=0.7) -> dict:
    """Evaluation of a classifier that is right for a share `skill`, else wrong in turn."""
    counts = {}
    for name, support in (("dev", 60), ("test", 120)):
        matrix = [[0] * len(accents) for _ in accents]
        for i in range(len(accents)):
            for k in range(support):
                wrong = (i + 1 + k % min(3, len(accents) - 1)) % len(accents)
                matrix[i][i if k < skill * support else wrong] += 1
        counts[name] = matrix
    sets = {}
    for name, matrix in counts.items():
        table = np.array(matrix, float)
        recall = table.diagonal() / table.sum(1)
        precision = table.diagonal() / np.maximum(table.sum(0), 1)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        sets[name] = {
            "accuracy": float(table.diagonal().sum() / table.sum()),
            "balanced_accuracy": float(recall.mean()), "macro_f1": float(f1.mean()),
            "low": float(recall.mean()) - 0.04, "high": float(recall.mean()) + 0.04,
            "chance": 1 / len(accents), "utterances": int(table.sum()), "speakers": 40,
            "per_accent": {
                a: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
                for a, p, r, f, n in zip(accents, precision, recall, f1, table.sum(1))},
            "confusion": {"accents": list(accents), "counts": matrix},
        }
    nothing = dict.fromkeys(
        ("accuracy", "balanced_accuracy", "macro_f1", "chance", "low", "high"))
    sets["test_unseen"] = nothing | {
        "utterances": 0, "speakers": 0, "per_accent": {},
        "confusion": {"accents": list(accents), "counts": [[0] * len(accents)] * len(accents)},
        "unknown_accents": {"Hindi": {"utterances": 40, "predicted": {accents[0]: 30,
                                                                      accents[1]: 10}}}}
    return {"sets": sets}


def draw_picture(path: Path) -> None:
    """A spectrogram-like PNG with a map and a mask beside it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    rng = np.random.default_rng(3)
    time, mel = np.meshgrid(np.linspace(0, 3, 180), np.linspace(0, 1, 80))
    log_mel = np.sin(9 * time) * np.cos(7 * mel) + rng.normal(0, 0.3, time.shape)
    saliency = np.exp(-((time - 1.6) ** 2) * 4 - (mel - 0.55) ** 2 * 30)
    mask = np.kron(rng.random((10, 18)) < 0.2, np.ones((8, 10)))
    masked = np.where(mask, log_mel.mean(), log_mel)
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    for axes, image, name in zip(figure.subplots(3, sharex=True), (log_mel, saliency, masked),
                                 ("log-mel", "saliency", "masked")):
        axes.imshow(image, origin="lower", aspect="auto", extent=(0, 3, 0, 80))
        axes.set_ylabel(name)
    figure.savefig(path, dpi=80)


def build_inputs(folder: Path, **changes) -> ReportInputs:
    """Everything a report can show, with the score files that its links lead to below `folder`."""
    comparison = changes.pop("comparison", None) or build_comparison()
    for arm in comparison["arms"]:
        if Path(folder, arm["experiment"]).is_dir():
            continue
        for name, metric in itertools.product(comparison["sets"], comparison["metrics"]):
            score = folder / arm["experiment"] / arm["decode"] / name / f"score_{metric}"
            score.mkdir(parents=True, exist_ok=True)
            for file in ("by_accent.tsv", "result.txt"):
                (score / file).write_text("", encoding="utf-8")
    evaluation = folder / "exp/accent_resnet/eval/evaluation.json"
    evaluation.parent.mkdir(parents=True, exist_ok=True)
    evaluation.write_text("{}", encoding="utf-8")
    draw_picture(folder / "map.png")
    given = {
        "comparison": comparison,
        "classifier": build_classifier(),
        "faithfulness": {
            "set": "test", "shares": [0.1, 0.2, 0.3, 0.5], "balanced_accuracy": 0.702,
            "untouched": 0.71, "random_weights_correlation": 0.04,
            "curves": {"salient": [0.52, 0.347, 0.223, 0.08],
                       "random": [0.699, 0.643, 0.594, 0.457],
                       "least": [0.714, 0.712, 0.722, 0.706],
                       "rolled": [0.697, 0.673, 0.645, 0.548]},
            "intervals": {curve: [[0.3, 0.4]] * 4
                          for curve in ("salient", "random", "least", "rolled")}},
        "pictures": [{"png": "map.png", "caption": f"spk{n:03d}, {a}: log-mel, map, one mask"}
                     for n, a in enumerate(["Scottish", "London"])],
        "runs": {a["name"]: {"command": f"python -m espnet_saliency -m espnet2.bin.asr_train "
                             f"--config conf/train_asr_conformer.yaml --config2 conf/aug/"
                             f"{a['name']}.yaml --output_dir {a['experiment']} --seed 2024",
                             "train_seconds": a.get("train_seconds"), "experiment": a["experiment"],
                             "parameters": 1_204_112} for a in comparison["arms"]},
        "data": {"train": {"utterances": 1600, "speakers": 192, "words": 9820, "hours": 1.21},
                 "test_unseen": {"utterances": 480, "speakers": 96, "words": 3840, "hours": 0.31}},
        "environment": {"python": "3.11.9", "torch": "2.11.0", "espnet": "202511"},
        "command": "./run.sh --stage 1 --stop_stage 14", "seed": "2024",
        "sources": {"classifier": evaluation, "faithfulness": folder / "missing.json"},
        "base": folder,
    }
    return ReportInputs(**(given | changes))


@pytest.fixture(scope="session")
def make_inputs():
    return build_inputs


@pytest.fixture(scope="session")
def make_comparison():
    return build_comparison


@pytest.fixture(scope="session")
def make_classifier():
    return build_classifier


SEEDS = (1, 2, 7)
PLACES = {"test": ["Scottish", "London"], "test_unseen": ["Hindi", "Thai"]}
NOISY = {f"{name}_noise_0": (name, "noise_0") for name in PLACES}
LOG_LINE = (
    "[vm] 2026-11-23 02:25:58,071 (trainer:394) INFO: {epoch}epoch results: [train] loss=9.4, "
    "time=17.06 seconds, [valid] loss_ctc=1.5, loss={loss}, acc={acc}, cer=nan, time=0.6 seconds\n"
)


def build_recipe(folder: Path, arms=ARMS, seeds=SEEDS, draws=200) -> ReportInputs:
    """A run of the recipe as scored, compared and tabulated by the package: all that a page has.

    Each arm and seed loses words at random; noise loses more. All sound is a tone.
    """
    rng = np.random.default_rng(11)
    exp, dump = folder / "exp", folder / "dump/raw"
    for name, (of, _) in ({name: (name, "clean") for name in PLACES} | NOISY).items():
        _data(dump / name, PLACES[of])
    runs = []
    for place, (arm, factor) in enumerate(arms.items()):
        for seed in seeds:
            experiment = exp / f"asr_conformer_{arm}_seed{seed}"
            for name in (*PLACES, *NOISY):
                _decode(rng, experiment / "decode_asr" / name, dump / name,
                        factor * (0.5 if name in NOISY else 0.2))
            lines = [LOG_LINE.format(epoch=e, loss=9 / e + place, acc=1 - 0.5 / e)
                     for e in range(1, 13)]
            (experiment / "train.log").write_text(
                f"# python -m espnet_saliency -m espnet2.bin.asr_train --seed {seed} --arm {arm}\n"
                f"# started 2026-11-23 02:20:00\n{''.join(lines)}", "utf-8")
            runs.append(ArmDecode(arm, experiment, "decode_asr", (*PLACES, *NOISY), "./run.sh",
                                  60.0 + place, seed))
    comparison = compare(runs, next(iter(arms)), "mini_accent", draws=draws)
    label_conditions(comparison, {name: (name, "clean") for name in PLACES} | NOISY)
    report = exp / "report"
    write_comparison(report / "comparison.json", comparison)
    variants = [Variant(arm, "saliency_specaug", {"mask_ratio": 0.1 * place})
                for place, arm in enumerate(arms) if place]
    write_sweep(report, comparison, variants)
    left_out = exp / "leave_one_out"
    write_unseen(left_out, {"test": {"wer": _unseen_table(runs, arms, draws)}}, "the ordinary run")
    _probe(rng, exp, dump / "test", draws)
    draw_picture(folder / "map.png")
    return build_inputs(
        folder,
        comparison=comparison,
        faithfulness=FAITHFULNESS,
        stability={"set": "test", "correlation": 0.61, "random_weights_correlation": 0.05,
                   "overlap": 0.34, "chance_overlap": 1 / 9, "agreement": 0.8, "utterances": 40},
        pictures=[{"png": "map.png", "caption": "scottish1-0 (Scottish): heard as London (60 %)"}],
        runs={a["name"]: a for a in comparison["arms"]},
        unseen=json.loads((left_out / "results.json").read_text("utf-8")),
        sweep=json.loads((report / "sweep.json").read_text("utf-8")),
        probe=json.loads((report / "probe.json").read_text("utf-8")),
        audio={name: dump / name for name in PLACES},
        seed=" ".join(map(str, seeds)),
        sources={"unseen": left_out / "results.json", "sweep": report / "sweep.json",
                 "probe": report / "probe.json"},
    )


def _probe(rng, exp: Path, data: Path, draws: int) -> None:
    """report/probe.json of a recogniser that loses most words where the most salient is hidden."""
    hidings = [PLAIN, *(Hiding(order, share) for share in (0.1, 0.3) for order in ORDERS)]
    for hiding in hidings:
        loss = 0.1 + hiding.share * (1 + ORDERS.index(hiding.order) if hiding.share else 0)
        _decode(rng, exp / "probe" / hiding.name / data.name, data, loss)
    decodes = [ArmDecode(hiding.name, exp / "probe", hiding.name, (data.name,), "./run.sh")
               for hiding in hidings]
    compared = compare(decodes, PLAIN.name, "mini_accent", draws=draws)
    write_probe(exp / "report", compared, hidings, "specaug", ["test: <b>near</b> chance"])


FAITHFULNESS = {
    "set": "test", "shares": [0.1, 0.3], "balanced_accuracy": 0.7, "untouched": 0.71,
    "random_weights_correlation": None,
    "curves": {"salient": [0.5, 0.2], "random": [0.7, 0.6]},
    "intervals": {"salient": [[0.45, 0.55], [0.15, 0.25]], "random": [[0.65, 0.75], [0.5, 0.7]]},
    "insertion": {"curves": {"salient": [0.3, 0.6], "random": [0.2, 0.4]}, "nothing": 0.125,
                  "intervals": {"salient": [[0.2, 0.4], [0.5, 0.7]],
                                "random": [[0.1, 0.3], [0.3, 0.5]]}},
    "auc": {"deletion": {"salient": {"value": 0.42, "low": 0.38, "high": 0.46},
                         "salient_gain": {"value": 0.11, "low": 0.05, "high": 0.16}},
            "insertion": {"salient": {"value": 0.37, "low": 0.31, "high": 0.43},
                          "salient_gain": {"value": -0.02, "low": -0.06, "high": 0.02}}},
}  # fmt: skip


def _data(folder: Path, accents) -> None:
    """A dump folder: 5 speakers an accent, two utterances each, gender known."""
    folder.mkdir(parents=True)
    rows = [(f"{a.lower()}{n}-{i}", f"{a.lower()}{n}", a, "fm"[n % 2], WORDS[i : i + 4 + 3 * i])
            for a in accents for n in range(5) for i in range(2)]
    tables = {"text": lambda r: " ".join(r[4]), "utt2spk": lambda r: r[1],
              "utt2accent": lambda r: r[2], "utt2gender": lambda r: r[3],
              "wav.scp": lambda r: str(folder / f"{r[0]}.flac")}
    for name, value in tables.items():
        (folder / name).write_text("".join(f"{r[0]} {value(r)}\n" for r in rows), "utf-8")
    tone = np.sin(np.arange(12_000) / 20).astype("float32") / 4
    for row in rows:
        soundfile.write(folder / f"{row[0]}.flac", tone, 16_000)


def _decode(rng, folder: Path, data: Path, lost: float) -> None:
    folder.mkdir(parents=True)
    lines = []
    for line in (data / "text").read_text("utf-8").splitlines():
        utt_id, *words = line.split()
        heard = [word for word in words if rng.random() > lost]
        lines.append(" ".join([utt_id, *heard]) + "\n")
    (folder / "text").write_text("".join(lines), "utf-8")
    score_decode(folder, data)


def _unseen_table(runs, arms, draws) -> dict:
    """Seen and unseen are two seeds of an arm: the numbers are real, if not the story."""
    held = []
    for arm in arms:
        first, second, *_ = [run.scores("test", "wer") for run in runs if run.name == arm]
        held += [HeldOut(accent, arm, [second], [first]) for accent in PLACES["test"]]
    return unseen_table(held, next(iter(arms)), draws)


@pytest.fixture(scope="session")
def make_recipe():
    return build_recipe


@pytest.fixture(scope="session")
def recipe(tmp_path_factory) -> tuple[ReportInputs, Path]:
    """Everything a recipe can have, with its page."""
    folder = tmp_path_factory.mktemp("whole")
    inputs = build_recipe(folder)
    return inputs, write_report(folder / "exp/report", inputs)
