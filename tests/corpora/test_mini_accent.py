"""The generated corpus: what it is made of, that it is made once, and the same every time."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_saliency.corpora import manifest, mini_accent
from espnet_saliency.corpora.mini_accent import (
    ACCENTS,
    DIGITS,
    FOREIGN,
    FRESH,
    GRAMMAR,
    Options,
    plan,
    prepare,
)
from espnet_saliency.corpora.respelling import RESPELLING
from espnet_saliency.errors import UserError

SMALL = Options(
    accents=("american", "indian", "italian"), unseen_accents=("italian",),
    train_speakers=3, dev_speakers=1, test_speakers=2,
    train_utterances=2, dev_utterances=1, test_utterances=1, unseen_utterances=2,
)  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    """Path in the folder -> digest of the file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cut-down corpus: its folder and its sets."""
    folder = tmp_path_factory.mktemp("made") / "mini accent"
    return folder, prepare(folder, SMALL, seed=1)


# The plan -------------------------------------------------------------------------------------


def test_vocabulary_is_neither_trivial_nor_large():
    words = [word for slot in GRAMMAR.values() for word in slot]
    assert len(words) == len(set(words)) == 51
    assert set(words) | set(DIGITS) == set(RESPELLING)
    assert all(set(spelt) == set(FOREIGN.values()) for spelt in RESPELLING.values())
    assert {len(line.text.split()) for line in plan(Options())} == {3, 4, 5, 6, 7}


def test_digits_are_read_in_place_of_sentences_and_all_as_often():
    lines = plan(Options(prompts="digits"))
    trained = [line for line in lines if line.set_name == "train"]
    counts = Counter(word for line in trained for word in line.text.split())
    assert set(counts) == set(DIGITS) and len(DIGITS) == 10
    # 1,792 prompts of five digits on average: each digit 896 times give or take 4 deviations.
    assert all(abs(count - 896) < 116 for count in counts.values())
    assert {len(line.text.split()) for line in lines} == {3, 4, 5, 6, 7}
    # The same speakers say them, under the same ids.
    assert [line[:4] for line in lines] == [line[:4] for line in plan(Options())]


def test_size_of_the_default_corpus():
    lines = plan(Options())
    accents, speakers = defaultdict(set), defaultdict(set)
    for line in lines:
        accents[line.set_name].add(line.accent)
        speakers[line.set_name].add(line.speaker)
    seen = set(ACCENTS) - set(Options.unseen_accents) - set(FRESH)
    assert len(seen) == 8 and len(Options.unseen_accents) == 4
    assert accents["train"] == accents["dev"] == accents["test"] == seen
    assert accents["test_unseen"] == set(Options.unseen_accents)
    assert {name: len(found) for name, found in speakers.items()} == {
        "train": 224, "dev": 32, "test": 192, "test_unseen": 96,
    }  # fmt: skip
    assert Counter(line.set_name for line in lines) == {
        "train": 1792, "dev": 160, "test": 384, "test_unseen": 384,
    }  # fmt: skip


def test_no_speaker_is_in_two_sets_nor_two_utterances_share_an_id():
    lines = plan(Options())
    sets = defaultdict(set)
    for line in lines:
        sets[line.speaker].add(line.set_name)
        assert line.utt_id.startswith(line.speaker + "-")
    assert all(len(names) == 1 for names in sets.values())
    assert len({line.utt_id for line in lines}) == len({line.file for line in lines}) == len(lines)


def test_every_accent_has_the_same_voices_in_each_set():
    voices = defaultdict(lambda: defaultdict(set))
    for line in plan(Options()):
        variant = line.voice.split("+")[1]
        voices[line.set_name][line.accent].add((variant, line.rate, line.pitch, line.range))
    for by_accent in voices.values():
        assert len({frozenset(found) for found in by_accent.values()}) == 1
    test, unseen = (next(iter(voices[name].values())) for name in ("test", "test_unseen"))
    assert test == unseen and len(test) == 24
    # Nobody who is tested is heard in training under another name.
    train = set().union(*voices["train"].values(), *voices["dev"].values())
    assert len(train) == 32 and not train & test


def test_speakers_differ_and_speak_at_a_natural_rate():
    lines = plan(Options())
    voices = {line.speaker: (line.voice, line.rate, line.pitch, line.range) for line in lines}
    assert len(set(voices.values())) == len(voices)
    assert all(140 <= line.rate <= 180 for line in lines)
    genders = Counter(line.gender for line in lines if line.set_name == "train")
    assert 0.3 < genders["female"] / sum(genders.values()) < 0.5


def test_accents_are_tested_on_the_same_sentences_mostly_unheard():
    texts = defaultdict(lambda: defaultdict(list))
    for line in plan(Options()):
        texts[line.set_name][line.accent].append(line.text)
    assert len({tuple(found) for found in texts["test"].values()}) == 1
    assert len({tuple(found) for found in texts["test_unseen"].values()}) == 1
    trained = {text for found in texts["train"].values() for text in found}
    assert len(trained) > 1700
    for name in ("test", "test_unseen"):
        tested = [text for found in texts[name].values() for text in found]
        assert sum(text in trained for text in tested) < 0.05 * len(tested)


def test_respelling_speaks_the_sentence():
    for line in plan(Options()):
        language = FOREIGN.get(line.accent)
        words = line.text.split()
        spelt = [RESPELLING[word][language] for word in words] if language else words
        assert line.spoken == " ".join(spelt)


def test_fresh_accents_are_spoken_where_they_are_named_and_read_what_all_read():
    assert set(FRESH) < set(ACCENTS) and not set(FRESH) & set(Options.accents)
    unseen = replace(Options(), accents=("american", "indian", *FRESH), unseen_accents=FRESH)
    fresh = [line for line in plan(unseen) if line.set_name == "test_unseen"]
    assert {line.accent for line in fresh} == set(FRESH)
    german = [line for line in plan(Options()) if line.accent == "german"]
    for accent in FRESH:
        mine = [line for line in fresh if line.accent == accent]
        assert [line.text for line in mine] == [line.text for line in german]
        assert all(line.voice.startswith(FOREIGN[accent] + "+") for line in mine)
        assert len({line.spoken for line in mine} & {line.spoken for line in german}) == 0


def test_an_unseen_accent_is_tested_first_on_what_is_tested_when_it_is_seen():
    heard = [line for line in plan(SMALL) if line.accent == "italian"]
    seen = [line for line in plan(replace(SMALL, unseen_accents=())) if line.accent == "italian"]
    count = SMALL.test_speakers * SMALL.test_utterances
    expected = [line._replace(set_name="test") for line in heard[:count]]
    assert seen[:count] == expected


def test_seed_of_the_corpus_changes_sentences_and_speakers():
    first, second = plan(SMALL), plan(replace(SMALL, corpus_seed=2))
    assert [line.utt_id for line in first] == [line.utt_id for line in second]
    assert [line.text for line in first] != [line.text for line in second]
    assert [line.rate for line in first] != [line.rate for line in second]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"accents": ("american", "welsh")}, "--accents welsh: unknown; mini_accent has american"),
        ({"unseen_accents": ("welsh",)}, "--unseen_accents welsh: unknown"),
        ({"accents": ("american", "american", "indian")}, "one is named twice"),
        ({"unseen_accents": ("turkish",)}, "--unseen_accents turkish: is not among --accents"),
        ({"unseen_accents": ("italian", "indian")}, "leaves 1 of 3 accents to train on"),
        ({"train_speakers": 0}, "--train_speakers 0: must lie between 1 and 100"),
        ({"prompts": "letters"}, "--prompts letters: one of sentences, digits"),
        ({"unseen_utterances": 101}, "--unseen_utterances 101: must lie between 1 and 100"),
    ],
)
def test_options_that_make_no_corpus(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        prepare(tmp_path / "x", replace(SMALL, **options), seed=1)
    assert not (tmp_path / "x").exists()


# The speech -----------------------------------------------------------------------------------


def test_sets_of_a_small_corpus(made):
    folder, corpus = made
    assert {name: len(list(utterances)) for name, utterances in corpus.sets.items()} == {
        "train": 12, "dev": 2, "test": 4, "test_unseen": 4,
    }  # fmt: skip
    for name, utterances in corpus.sets.items():
        assert [u.utt_id for u in utterances] == sorted(u.utt_id for u in utterances)
        assert all((u.accent == "italian") == (name == "test_unseen") for u in utterances)
        assert all(u.path.is_relative_to(folder) for u in utterances)
    assert (corpus.rejected, corpus.excluded) == ([], [])


def test_audio_is_speech(made):
    _, corpus = made
    for utterance in (u for utterances in corpus.sets.values() for u in utterances):
        samples, rate = soundfile.read(utterance.path)
        words = len(utterance.text.split())
        assert rate == 22050 and samples.ndim == 1
        assert 0.2 * words < len(samples) / rate < 0.8 * words
        assert 0.1 < np.abs(samples).max() < 0.95
        # The quietest 10 ms are quiet, and no digital silence.
        frames = samples[: len(samples) // 220 * 220].reshape(-1, 220)
        assert 1e-4 < frames.std(axis=1).min() < 0.01


def test_the_same_bytes_every_time(made, tmp_path, monkeypatch):
    folder, _ = made
    monkeypatch.setenv("PYTHONHASHSEED", "3")
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    prepare(tmp_path / "again", SMALL, seed=2)
    assert digests(tmp_path / "again") == digests(folder)


def test_test_speech_does_not_depend_on_what_is_held_out(made, tmp_path):
    folder, _ = made
    prepare(tmp_path / "seen", replace(SMALL, unseen_accents=()), seed=1)
    seen, held = digests(tmp_path / "seen"), digests(folder)
    tested = [name for name in seen if "italian-2" in name]
    assert len(tested) == 2
    assert all(seen[name] == held[name] for name in tested)


def test_a_complete_corpus_is_left_alone(made):
    folder, corpus = made
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert prepare(folder, SMALL, seed=5) == corpus
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_options_or_a_lost_file_make_it_anew(tmp_path):
    tiny = replace(SMALL, train_speakers=1, train_utterances=1)
    folder = tmp_path / "c"
    corpus = prepare(folder, tiny, seed=1)
    first = digests(folder)
    corpus.sets["dev"][0].path.unlink()
    prepare(folder, tiny, seed=1)
    assert digests(folder) == first
    prepare(folder, replace(tiny, corpus_seed=2), seed=1)
    assert digests(folder) != first
    assert not [path for path in tmp_path.iterdir() if path != folder]


def test_its_table_is_read_by_the_manifest_corpus(made):
    folder, corpus = made
    assert manifest.prepare(folder, manifest.Options(), seed=1).sets == corpus.sets


# What is refused ------------------------------------------------------------------------------


def test_a_folder_with_something_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds thesis.txt, which is not of mini_accent"):
        prepare(tmp_path, SMALL, seed=1)
    (tmp_path / "thesis.txt").rename(tmp_path / "manifest.tsv")
    with pytest.raises(UserError, match="holds manifest.tsv, which is not of mini_accent"):
        prepare(tmp_path, SMALL, seed=1)
    with pytest.raises(UserError, match="is a file"):
        prepare(tmp_path / "manifest.tsv", SMALL, seed=1)
    assert (tmp_path / "manifest.tsv").read_text() == "years of work"


def test_missing_synthesiser_is_named_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r"pip install 'espnet-saliency\[mini\]'"):
        prepare(tmp_path / "x", SMALL, seed=1)
    assert not list(tmp_path.iterdir())


def test_failing_synthesiser_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(mini_accent.ACCENTS, "american", "en-atlantis")
    with pytest.raises(
        UserError, match=r"accent american after 0 of 9 .* no voice 'en-atlantis\+\w+'"
    ) as error:
        prepare(tmp_path / "x", SMALL, seed=1)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_package_itself_never_loads_the_synthesiser():
    program = (
        "import sys; from espnet_saliency.corpora import espeak, mini_accent;"
        "print('espeakng_loader' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr


def test_record_says_how_it_was_made(made):
    folder, _ = made
    record = json.loads((folder / "mini_accent.json").read_text())
    assert record["utterances"] == 22
    assert record["options"]["unseen_accents"] == ["italian"]
