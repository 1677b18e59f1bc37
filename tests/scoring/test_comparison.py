from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.scoring import significance as sig
from espnet_saliency.scoring.comparison import ArmDecode, compare, write_comparison
from espnet_saliency.scoring.score_folder import score_decode

WORDS = "red green blue black white grey pink brown".split()
ERROR = {"specaug": 0.3, "saliency_specaug": 0.15, "random_specaug": 0.3}


def make_data(folder: Path, accents: dict[str, int], seed: int = 1) -> Path:
    """A data directory with so many speakers of each accent, four utterances each."""
    draw = random.Random(seed)
    tables = {"text": [], "utt2spk": [], "utt2accent": []}
    for accent, speakers in accents.items():
        for speaker in (f"{accent}{n}" for n in range(speakers)):
            for utt in (f"{speaker}-{n}" for n in range(4)):
                text = " ".join(draw.choices(WORDS, k=draw.randint(3, 9)))
                tables["text"].append(f"{utt} {text}")
                tables["utt2spk"].append(f"{utt} {speaker}")
                tables["utt2accent"].append(f"{utt} {accent}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(sorted(lines)) + "\n")
    return folder


def make_arm(exp: Path, name: str, data: Path, policy: str = "none") -> ArmDecode:
    """An arm whose hypotheses have words changed, dropped and added at random."""
    draw = random.Random(name)
    lines = []
    for line in (data / "text").read_text().splitlines():
        utt, *words = line.split()
        out = []
        for word in words:
            if draw.random() < ERROR[name]:
                word = draw.choice(["", "wrong", f"{word} more"])
            out.append(word)
        lines.append(" ".join([utt, *out]))
    folder = exp / f"asr_{name}" / "decode" / data.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text").write_text("\n".join(lines) + "\n")
    score_decode(folder, data, policy)
    return ArmDecode(name, exp / f"asr_{name}", "decode", (data.name,), f"./run.sh --arms {name}")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    data = make_data(root / "data" / "test", {"north": 6, "south": 8, "east": 2})
    return data, [make_arm(root / "exp", name, data) for name in ERROR]


@pytest.fixture(scope="module")
def comparison(world):
    return compare(world[1], "specaug", "colours", draws=2000, seed=3)


def test_schema(comparison):
    assert comparison["schema"] == 1
    assert comparison["baseline"] == "specaug"
    assert [arm["name"] for arm in comparison["arms"]] == list(ERROR)
    assert set(comparison["arms"][0]) == {"name", "experiment", "decode", "command"}
    assert comparison["metrics"] == ["wer", "cer"]
    assert comparison["bootstrap"] == {"draws": 2000, "seed": 3, "unit": "speaker", "level": 0.95}
    one = comparison["sets"]["test"]
    assert (one["utterances"], one["speakers"]) == (64, 16)
    assert one["accents"] == ["east", "north", "south"]
    for metric in ("wer", "cer"):
        for arm in ERROR:
            scores = one[metric]["arms"][arm]
            assert list(scores["groups"]) == ["overall", "east", "north", "south"]
            assert set(scores) == {"groups", "macro", "worst", "gap", "std"}
            group = scores["groups"]["overall"]
            wanted = "utterances speakers words hits sub del ins errors rate low high".split()
            assert set(wanted) <= set(group)
            assert group["low"] < group["rate"] < group["high"]
        for pair in one[metric]["differences"]:
            for group in pair["groups"].values():
                wanted = "absolute low high relative p_value speakers small p_holm".split()
                assert set(wanted) <= set(group)


def test_pairs_are_arm_minus_baseline_first(comparison):
    pairs = [(d["arm"], d["reference"]) for d in comparison["sets"]["test"]["wer"]["differences"]]
    assert pairs == [
        ("saliency_specaug", "specaug"),
        ("random_specaug", "specaug"),
        ("random_specaug", "saliency_specaug"),
    ]


def test_baseline_is_the_reference_wherever_it_stands(world):
    result = compare(world[1], "random_specaug", "colours", draws=50)
    pairs = [(d["arm"], d["reference"]) for d in result["sets"]["test"]["wer"]["differences"]]
    assert pairs == [
        ("specaug", "random_specaug"),
        ("saliency_specaug", "random_specaug"),
        ("saliency_specaug", "specaug"),
    ]


def test_numbers_against_the_scores(world, comparison):
    arms = {arm.name: arm.scores("test", "wer") for arm in world[1]}
    one = comparison["sets"]["test"]["wer"]
    group = one["arms"]["specaug"]["groups"]["north"]
    chosen = [i for i, accent in enumerate(arms["specaug"].accents) if accent == "north"]
    errors, words = arms["specaug"].errors[chosen].sum(), arms["specaug"].words[chosen].sum()
    assert (group["errors"], group["words"]) == (errors, words)
    assert group["rate"] == pytest.approx(100 * errors / words)
    rates = [one["arms"]["specaug"]["groups"][a]["rate"] for a in ("north", "south", "east")]
    assert one["arms"]["specaug"]["macro"] == pytest.approx(np.mean(rates))
    assert one["arms"]["specaug"]["worst"]["rate"] == max(rates)
    assert one["arms"]["specaug"]["gap"] == pytest.approx(max(rates) - min(rates))
    pair = one["differences"][0]["groups"]["north"]
    other = one["arms"]["saliency_specaug"]["groups"]["north"]["rate"]
    assert pair["absolute"] == pytest.approx(other - group["rate"])
    assert pair["relative"] == pytest.approx(100 * (other / group["rate"] - 1))
    assert pair["low"] < pair["absolute"] < pair["high"]
    assert pair["relative_low"] < pair["relative"] < pair["relative_high"]


def test_p_values_by_speaker(world, comparison):
    a, b = (world[1][k].scores("test", "wer") for k in (0, 1))
    pair = comparison["sets"]["test"]["wer"]["differences"][0]["groups"]
    by_speaker = {s: 0 for s in a.speakers}
    for speaker, x, y in zip(a.speakers, a.errors, b.errors):
        by_speaker[speaker] += y - x
    everyone = np.array([by_speaker[s] for s in sorted(by_speaker)])
    assert pair["overall"]["p_value"] == sig.randomisation_p(everyone, 2000, 3)
    assert pair["overall"]["p_value"] < 0.05  # half the errors, by construction
    assert pair["overall"]["p_holm"] is None
    accents = ["east", "north", "south"]
    corrected = sig.holm([pair[a]["p_value"] for a in accents])
    assert [pair[a]["p_holm"] for a in accents] == corrected
    segments = sum(pair[a]["segments"] for a in accents)
    assert pair["overall"]["segments"] == segments  # utterances belong to one accent each
    assert "p_mapsswe" not in comparison["sets"]["test"]["cer"]["differences"][0]["groups"]["east"]


def test_equal_arms_differ_by_nothing(world, tmp_path):
    data, (arm, *_) = world
    twin = ArmDecode("twin", arm.experiment, arm.decode, arm.sets, arm.command)
    result = compare([arm, twin], "specaug", "colours", draws=100)
    for group in result["sets"]["test"]["wer"]["differences"][0]["groups"].values():
        assert (group["absolute"], group["low"], group["high"], group["p_value"]) == (0, 0, 0, 1)


def test_small_groups_are_flagged_not_hidden(comparison):
    groups = comparison["sets"]["test"]["wer"]["differences"][0]["groups"]
    assert {name: group["small"] for name, group in groups.items()} == {
        "overall": False,
        "east": True,
        "north": True,
        "south": True,
    }
    speakers = {name: group["speakers"] for name, group in groups.items()}
    assert speakers == {"overall": 16, "east": 2, "north": 6, "south": 8}
    assert groups["east"]["p_value"] >= 0.5  # two speakers cannot show more


def test_one_speaker_has_no_interval(tmp_path):
    data = make_data(tmp_path / "data" / "test", {"north": 3, "lone": 1})
    arms = [make_arm(tmp_path, name, data) for name in ("specaug", "random_specaug")]
    one = compare(arms, "specaug", "colours", draws=100)["sets"]["test"]["wer"]
    lone = one["differences"][0]["groups"]["lone"]
    assert lone["absolute"] is not None
    assert (lone["low"], lone["high"], lone["p_value"]) == (None, None, 1)
    assert one["arms"]["specaug"]["groups"]["lone"]["low"] is None


def test_group_without_words_has_no_rate(tmp_path):
    data = make_data(tmp_path / "data" / "test", {"north": 3, "mute": 2})
    text = (data / "text").read_text().splitlines()
    text = [line.split()[0] if line.startswith("mute") else line for line in text]
    (data / "text").write_text("\n".join(text) + "\n")
    arms = [make_arm(tmp_path, name, data) for name in ("specaug", "random_specaug")]
    result = compare(arms, "specaug", "colours", draws=100)
    group = result["sets"]["test"]["wer"]["differences"][0]["groups"]["mute"]
    assert (group["absolute"], group["relative"], group["low"]) == (None, None, None)
    write_comparison(tmp_path / "comparison.json", result)


def test_unknown_accents_are_a_group_of_their_own(tmp_path):
    data = make_data(tmp_path / "data" / "test", {"north": 3, "south": 2})
    lines = (data / "utt2accent").read_text().splitlines()
    (data / "utt2accent").write_text("\n".join(x for x in lines if "south" not in x) + "\n")
    arms = [make_arm(tmp_path, "specaug", data)]
    one = compare(arms, "specaug", "colours", draws=100)["sets"]["test"]
    assert one["accents"] == ["", "north"]
    scores = one["wer"]["arms"]["specaug"]
    assert scores["groups"][""]["speakers"] == 2
    assert scores["macro"] == scores["groups"]["north"]["rate"]
    assert one["wer"]["differences"] == []


def test_worst_utterances(world, comparison):
    worst = [u for u in comparison["worst_utterances"] if u["arm"] == "specaug"]
    scores = world[1][0].scores("test", "wer")
    assert [u["errors"] for u in worst] == sorted(scores.errors.tolist(), reverse=True)[:10]
    first = worst[0]
    kinds = [kind for kind, _, _ in first["alignment"]]
    assert sum(kind != "=" for kind in kinds) == first["errors"]
    assert sum(kind != "I" for kind in kinds) == first["words"]
    assert " ".join(ref for _, ref, _ in first["alignment"] if ref) == first["reference"]
    assert " ".join(hyp for _, _, hyp in first["alignment"] if hyp) == first["hypothesis"]


def test_utterances_without_an_error_are_not_among_the_worst(world):
    result = compare(world[1][:1], "specaug", "colours", draws=10, worst=1000)
    arm = result["sets"]["test"]["wer"]["arms"]["specaug"]
    wrong = arm["groups"]["overall"]["wrong_utterances"]
    assert 0 < wrong < 64
    assert len(result["worst_utterances"]) == wrong


def test_written_json_is_the_dictionary(tmp_path, comparison):
    path = tmp_path / "report" / "comparison.json"
    write_comparison(path, comparison)
    assert json.loads(path.read_text(encoding="utf-8")) == comparison


def test_same_bytes_whatever_the_hash_seed(world, tmp_path):
    code = (
        "import json, pathlib, sys\n"
        "from espnet_saliency.scoring.comparison import ArmDecode, compare\n"
        "arms = [ArmDecode(n, pathlib.Path(e), 'decode', ('test',), '')"
        " for n, e in json.loads(sys.argv[1])]\n"
        "print(json.dumps(compare(arms, 'specaug', 'c', draws=200)))"
    )
    arms = json.dumps([[arm.name, str(arm.experiment)] for arm in world[1]])
    root = str(Path(__file__).parents[2])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, arms],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_other_seed_other_draws(world, comparison):
    again = compare(world[1], "specaug", "colours", draws=2000, seed=4)
    group = again["sets"]["test"]["wer"]["arms"]["specaug"]["groups"]["overall"]
    before = comparison["sets"]["test"]["wer"]["arms"]["specaug"]["groups"]["overall"]
    assert group["rate"] == before["rate"] and group["low"] != before["low"]


def test_arms_that_cannot_be_compared(world, tmp_path):
    data, (arm, *_) = world
    with pytest.raises(UserError, match=r"baseline 'none' is not among the arms \(specaug\)"):
        compare([arm], "none", "c")
    with pytest.raises(UserError, match="is not among the arms"):
        compare([], "specaug", "c")
    with pytest.raises(UserError, match="one is named twice"):
        compare([arm, arm], "specaug", "c")
    other = ArmDecode("random_specaug", tmp_path, "decode", ("test", "dev"), "")
    with pytest.raises(UserError, match="arm random_specaug was scored on test, dev, arm specaug"):
        compare([arm, other], "specaug", "c")
    unscored = ArmDecode("random_specaug", tmp_path, "decode", ("test",), "")
    with pytest.raises(UserError, match="holds no scores"):
        compare([arm, unscored], "specaug", "c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("text", "north0-0 ", "north0-0 extra "), "different references for 1 utterances"),
        (("utt2spk", "north0-0 north0", "north0-0 north1"), "different speakers for 1 utterances"),
        (("utt2accent", "north0-0 north", "north0-0 west"), r"accents .*north0-0: 'north' and 'we"),
    ],
)
def test_arms_scored_on_other_data_are_refused(world, tmp_path, change, message):
    data, (arm, *_) = world
    other = make_data(tmp_path / "data" / "test", {"north": 6, "south": 8, "east": 2})
    name, old, new = change
    (other / name).write_text((other / name).read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        compare([arm, make_arm(tmp_path, "random_specaug", other)], "specaug", "c")


def test_arms_scored_on_other_utterances_or_policies_are_refused(world, tmp_path):
    data, (arm, *_) = world
    fewer = make_data(tmp_path / "data" / "test", {"north": 6, "south": 8, "east": 1})
    with pytest.raises(UserError, match=r"different utterances: 4 are in one alone \(east1-0"):
        compare([arm, make_arm(tmp_path, "random_specaug", fewer)], "specaug", "c")
    with pytest.raises(UserError, match="text policies none and basic"):
        compare([arm, make_arm(tmp_path, "random_specaug", data, "basic")], "specaug", "c")


def test_arms_scored_with_other_columns_of_the_data_are_refused(world, tmp_path):
    data, (arm, *_) = world
    other = make_data(tmp_path / "data" / "test", {"north": 6, "south": 8, "east": 2})
    ids = [line.split()[0] for line in (other / "text").read_text().splitlines()]
    gender = "".join(f"{i} f\n" for i in ids)
    (other / "utt2gender").write_text(gender)
    with_gender = make_arm(tmp_path / "one", "random_specaug", other)
    with pytest.raises(UserError, match="different columns of the data: gender in one alone"):
        compare([arm, with_gender], "specaug", "c")
    (other / "utt2gender").write_text(gender.replace(" f", " m", 1))
    changed = make_arm(tmp_path / "two", "specaug", other)
    with pytest.raises(UserError, match=r"values of gender for 1 utterances \(first \S+: 'm' and 'f'\)"):
        compare([changed, with_gender], "specaug", "c")


@pytest.mark.filterwarnings("error")
def test_an_accent_of_insertions_alone_warns_of_nothing(tmp_path):
    data = make_data(tmp_path / "data" / "test", {"north": 3, "mute": 2})
    arms = [make_arm(tmp_path, name, data) for name in ("specaug", "random_specaug")]
    text = "".join(
        line.split()[0] + "\n" if line.startswith("mute") else line
        for line in (data / "text").read_text().splitlines(keepends=True)
    )
    (data / "text").write_text(text)
    for arm in arms:
        score_decode(arm.folder("test"), data)
    group = compare(arms, "specaug", "c", draws=50)["sets"]["test"]["wer"]["arms"]["specaug"]["groups"]["mute"]
    assert group["ins"] > 0 and group["rate"] is None
