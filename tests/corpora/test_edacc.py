"""EdAcc: tags, accents, conversations in one set only, a read-only folder."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from espnet_saliency.corpora.edacc import (
    Options,
    conversation,
    held_conversations,
    prepare,
    read_accent_map,
    read_background,
)
from espnet_saliency.corpora.text import tags
from espnet_saliency.errors import UserError
from fixtures import EDACC_ACCENTS, make_edacc

ACCENTS = Path(__file__).parents[2] / "egs2" / "edacc" / "asr1" / "conf" / "accents.yaml"
OPTIONS = Options(accent_map=ACCENTS)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_edacc(tmp_path_factory.mktemp("edacc"), dev_conversations=12)


def test_sets_share_no_speaker_and_no_conversation(root):
    corpus = prepare(root, OPTIONS, 1)
    talks = {name: {conversation(u) for u in s} for name, s in corpus.sets.items()}
    assert not talks["train"] & talks["dev"]
    assert len(talks["train"] | talks["dev"]) == 12 and len(talks["test"]) == 4
    speakers = [{u.speaker for u in s} for s in corpus.sets.values()]
    assert not speakers[0] & speakers[1] and not (speakers[0] | speakers[1]) & speakers[2]
    assert {u.accent for u in corpus.sets["train"]} == {
        "scottish",
        "american",
        "nigerian",
        "indian",
    }
    assert corpus.rejected == []


def test_ids_begin_with_the_speaker_and_segments_are_kept(root):
    test = prepare(root, OPTIONS, 1).sets["test"]
    second = test[1]
    assert second.utt_id == "EDACC-C13-B-EDACC-C13-000000001" and second.speaker == "EDACC-C13-B"
    line = (root / "test" / "segments").read_text().splitlines()[1]
    assert line == f"EDACC-C13-000000001 EDACC-C13 {second.start:.2f} {second.end:.2f}"
    assert second.path == root / "data" / "EDACC-C13.wav"


def test_tags_in_training_and_in_test(root):
    corpus = prepare(root, OPTIONS, 1)
    published = dict(
        line.split(maxsplit=1) for line in (root / "test" / "text").read_text().splitlines()
    )
    assert {u.utt_id[-19:]: u.text for u in corpus.sets["test"]} == published
    learned = [*corpus.sets["train"], *corpus.sets["dev"]]
    assert all("<" not in u.text and u.text == u.text.upper() for u in learned)
    # The sixth utterance of each conversation is "<laugh> ...", the seventh "... <breath> <click>".
    assert sum(u.utt_id.endswith(("005", "006")) for u in learned) == 24
    dropped = {r.utt_id: r.reason for r in corpus.excluded}
    texts = dict(
        line.split(maxsplit=1) for line in (root / "dev" / "text").read_text().splitlines()
    )
    assert {utt_id[-19:] for utt_id in dropped} == {
        utt_id
        for utt_id, text in texts.items()
        if {"overlap", "foreign", "no-speech"} & set(tags(text))
    }
    assert set(dropped.values()) == {
        f"not for training: tag <{t}>" for t in ("overlap", "foreign", "no-speech")
    }
    assert len(learned) + len(dropped) == len(texts)


def test_tags_are_taken_out_under_any_text_policy(root):
    learned = prepare(root, Options(ACCENTS, text_policy="none"), 1).sets["train"]
    assert not any("<" in u.text for u in learned) and learned[0].text == learned[0].text.lower()


def test_which_tags_keep_out_is_an_option(root):
    corpus = prepare(root, Options(ACCENTS, excluded_tags=("foreign",)), 1)
    # <no-speech> alone still leaves no word to learn.
    assert Counter(r.reason for r in corpus.excluded) == {
        "not for training: tag <foreign>": 12,
        "not for training: no words": 12,
    }


def test_division_depends_on_the_seed_alone(root):
    def dev(seed):
        return {conversation(u) for u in prepare(root, OPTIONS, seed).sets["dev"]}

    assert dev(1) == dev(1)
    assert len({frozenset(dev(seed)) for seed in range(8)}) > 1


def test_accents_are_divided_alike():
    # 40 conversations between neighbours on a circle of 8 accents, 10 to 30 utterances a speaker.
    sizes = {
        f"C{n:02d}": Counter({f"a{n % 8}": 10 + n % 21, f"a{(n + 1 + n // 8) % 8}": 30 - n % 21})
        for n in range(40)
    }
    total = sum(sizes.values(), Counter())
    for seed in range(5):
        held = held_conversations(sizes, 0.2, seed)
        have = sum((sizes[name] for name in held), Counter())
        assert 0.15 < have.total() / total.total() < 0.25
        assert all(0.05 < have[accent] / total[accent] < 0.4 for accent in total)


def test_an_accent_of_one_conversation_stays_in_training():
    sizes = {"one": Counter(rare=20, common=5), **{f"c{n}": Counter(common=20) for n in range(6)}}
    for seed in range(10):
        assert "one" not in held_conversations(sizes, 0.3, seed)
    assert held_conversations({"only": Counter(a=3)}, 0.3, 1) == frozenset()
    assert held_conversations({}, 0.3, 1) == frozenset()


def test_unseen_accents(root):
    whole = prepare(root, OPTIONS, 1)
    corpus = prepare(root, Options(ACCENTS, unseen_accents=("Nigerian",)), 1)
    assert {u.accent for name in ("train", "dev", "test") for u in corpus.sets[name]} == {
        "scottish",
        "american",
        "indian",
    }
    assert [u.utt_id for u in corpus.sets["test_unseen"]] == [
        u.utt_id for u in whole.sets["test"] if u.accent == "nigerian"
    ]
    count = sum(map(len, whole.sets.values())) + len(whole.excluded)
    assert sum(map(len, corpus.sets.values())) + len(corpus.excluded) == count


def test_unmapped_accents_are_unknown_and_named(tmp_path):
    root = make_edacc(tmp_path, accents=(*EDACC_ACCENTS, ("Fluent",), ("",)))
    corpus = prepare(root, OPTIONS, 1)
    unknown = {u.speaker for s in corpus.sets.values() for u in s if not u.accent}
    notes = [note for note in corpus.notes if "unknown" in note]
    assert [note.partition(",")[0] for note in notes] == [
        "no accent stated",
        "accent 'Fluent' is not in accents.yaml",
    ]
    assert unknown and all(any(speaker in note for note in notes) for speaker in unknown)


def test_without_a_map_each_wording_is_an_accent(root):
    corpus = prepare(root, Options(), 1)
    accents = {u.accent for s in corpus.sets.values() for u in s}
    assert {"glaswegian", "scottish_(fife)", "nigerian", "american,_i_guess."} <= accents


def test_the_map_of_the_recipe_knows_every_spelling(tmp_path):
    varieties = read_accent_map(ACCENTS)
    for written, variety in [
        ("GLASWEGIAN (not  slang)", "scottish"),
        ("Irish/Dublin", "irish"),
        ("American, I guess", "american"),
        ("Chinese accent or mixed accent(US, UK, China..) perhaps", "chinese"),
        ("Latín American", "latin_american"),
    ]:
        path = tmp_path / "one.yaml"
        path.write_text(f'x: ["{written}"]', encoding="utf-8")
        (key,) = read_accent_map(path)
        assert varieties[key] == variety


@pytest.mark.parametrize(
    "content, message",
    [
        ("a: [Irish]\nb: [' irish. ']", "' irish. ' is listed under a and under b"),
        ("a: Irish", "must hold 'variety: \\[what speakers wrote"),
        ("- a", "holds a list, not keys with values"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_a_bad_map_is_refused(tmp_path, content, message):
    path = tmp_path / "accents.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_accent_map(path)


def test_broken_segments_are_listed(tmp_path):
    root = make_edacc(tmp_path, dev_conversations=4, test_conversations=2, broken=True)
    corpus = prepare(root, OPTIONS, 1)
    reasons = Counter(r.reason.partition(":")[0] for r in corpus.rejected)
    assert reasons == {
        "ends before it starts": 2,
        "no line in utt2spk": 2,
        "no text": 2,
        "duplicate id": 2,
    }
    rows = [
        line
        for name in ("dev", "test")
        for line in (root / name / "segments").read_text().splitlines()
    ]
    out = sum(map(len, corpus.sets.values())) + len(corpus.rejected) + len(corpus.excluded)
    assert len(rows) == out
    # Past the end of the audio and without audio is seen where the headers are read.
    assert any(u.end == 9999 for s in corpus.sets.values() for u in s)


def test_odd_lines(tmp_path):
    root = make_edacc(tmp_path, dev_conversations=2, test_conversations=2)
    text = root / "dev" / "text"
    lines = text.read_text().splitlines()
    lines[0] = lines[0].partition(" ")[0] + " caf\u00e9\u00a0with\u200b blanks"
    text.write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    with open(root / "dev" / "segments", "a") as handle:
        handle.write("EDACC-C01-000000500 EDACC-C01 here there\n")
    with open(root / "dev" / "text", "ab") as handle:
        handle.write(b"\r\nEDACC-C01-000000501 nowhere\r\n")
    corpus = prepare(root, OPTIONS, 1)
    learned = {u.utt_id[-19:]: u.text for name in ("train", "dev") for u in corpus.sets[name]}
    assert learned["EDACC-C01-000000000"] == "CAFE WITH BLANKS"
    assert {r.utt_id[-9:]: r.reason.partition(":")[0] for r in corpus.rejected} == {
        "000000500": "not 'recording start end'",
        "000000501": "no segment",
    }


def test_background_has_the_published_header(root):
    background = read_background(root / "linguistic_background.csv")
    assert len(background) == 32 and background["EDACC-C01-A"] == "Glaswegian"


def test_it_writes_nothing(tmp_path):
    root = make_edacc(tmp_path, dev_conversations=2, test_conversations=2)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        prepare(root, OPTIONS, 1)
        assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    finally:
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755)


@pytest.mark.parametrize("level", ["edacc_v1.0", ".", "edacc_v1.0/dev"])
def test_one_level_above_or_below(tmp_path, level):
    make_edacc(tmp_path, dev_conversations=2, test_conversations=2)
    assert len(prepare(tmp_path / level, OPTIONS, 1).sets["test"]) == 20


@pytest.mark.parametrize(
    "name", ["linguistic_background.csv", "dev/segments", "test/text", "test/utt2spk"]
)
def test_a_missing_file_is_named(tmp_path, name):
    root = make_edacc(tmp_path, dev_conversations=2, test_conversations=2)
    (root / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        prepare(root, OPTIONS, 1)


def test_options_and_folders_are_checked(tmp_path):
    root = make_edacc(tmp_path, dev_conversations=2, test_conversations=2)
    with pytest.raises(UserError, match="--dev_share 1: a share between"):
        prepare(root, Options(dev_share=1), 1)
    with pytest.raises(UserError, match="--accent_map nowhere.yaml: no such file"):
        prepare(root, Options(Path("nowhere.yaml")), 1)
    (root / "data").rename(root / "audio")
    with pytest.raises(UserError, match="no folder data with the recordings"):
        prepare(root, OPTIONS, 1)


def test_parts_of_one_call_stay_together(tmp_path):
    root = make_edacc(tmp_path, dev_conversations=6, test_conversations=2)
    for name in ("segments",):
        path = root / "dev" / name
        path.write_text(
            path.read_text()
            .replace(" EDACC-C01 ", " EDACC-C01_P1 ")
            .replace(" EDACC-C02 ", " EDACC-C01_P2 ")
        )
    sets = prepare(root, OPTIONS, 1).sets
    where = defaultdict(set)
    for name in ("train", "dev"):
        for u in sets[name]:
            where[conversation(u)].add(name)
    assert len(where) == 5 and where["EDACC-C01"] in ({"train"}, {"dev"})
