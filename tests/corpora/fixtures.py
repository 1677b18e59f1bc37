"""Small corpora in the published layouts, with the oddities of the real ones.

Each function writes a corpus below `folder` and returns what a user would give as --corpus_dir.
Speech is a row of tones, one for each letter, bent by speaker and accent: quick to make, the same
every time, and enough to learn something from. What a reader must reject is left out unless
`broken` is set, so that a whole recipe can run on what is written here.

Run as a program it writes one of them: python tests/corpora/fixtures.py edacc DIR
"""

from __future__ import annotations

import csv
import hashlib
import random
import sys
from pathlib import Path

import numpy as np
import soundfile

WORDS = (
    "one two three red green blue river stone cloud paper winter summer north south bread water "
    "garden window music story little quiet early number again people under market yellow letter"
).split()
PERSIAN_WORDS = (
    "سلام خانه کتاب آب باران دوست شهر درخت پنجره ماه ستاره دریا کوه باغ مدرسه نان گل راه".split()
)

# The header of the real file: curly apostrophes, a blank at the end of two columns.
BACKGROUND_COLUMNS = (
    "PARTICIPANT_ID",
    "What is your gender?",
    "What\u2019s your ethnic background? ",
    "What is your higher level of education?",
    "How would you describe your accent in English? (e.g. Italian, Glaswegian)",
    "Do you speak any second languages? separate them with commas  "
    "(e.g., Mandarin,Catalan,French )",
    "What\u2019s your year of birth? (e.g., 1992)",
    "What year did you start learning English? (e.g., 1999)",
)
# Several wordings for one variety, another case, a full stop, a comma, brackets.
EDACC_ACCENTS = (
    ("Glaswegian", "Scottish (Fife)", "scottish "),
    ("American", "American, I guess.", "American accent"),
    ("Nigerian",),
    ("Standard Indian English", "Indian"),
)
COMMONACCENT_LABELS = (
    "african",
    "australia",
    "bermuda",
    "canada",
    "england",
    "hongkong",
    "indian",
    "ireland",
    "malaysia",
    "newzealand",
    "philippines",
    "scotland",
    "singapore",
    "southatlandtic",
    "us",
    "wales",
)
COMMONVOICE_ACCENTS = (
    "United States English",
    "England English",
    "Filipino",
    "India and South Asia (India, Pakistan, Sri Lanka)",
)


def speech(text: str, speaker: str, accent: str, fs: int, letter: float = 0.05) -> np.ndarray:
    """Tones for the letters of a text, float32 (samples,), `letter` s each.

    The speaker sets the pitch, the accent how a tone glides and which overtone is strong.
    """
    voice = random.Random(f"voice {speaker}")
    manner = random.Random(f"accent {accent}")
    pitch, glide, overtone = (
        voice.uniform(0.85, 1.15),
        manner.uniform(-0.4, 0.4),
        manner.randint(2, 6),
    )
    samples = int(letter * fs)
    t = np.arange(samples) / fs
    edge = np.minimum(1, np.minimum(t, t[::-1]) / 0.005)
    tones = [np.zeros(int(0.1 * fs))]
    for character in text.casefold():
        if not character.isalnum():
            tones.append(np.zeros(samples))
            continue
        base = pitch * (200 + 37 * (ord(character) % 53))
        phase = 2 * np.pi * base * (t + glide * t**2 / (2 * letter))
        tones.append(edge * (0.3 * np.sin(phase) + 0.1 * np.sin(overtone * phase)))
    tones.append(np.zeros(int(0.1 * fs)))
    noise = np.random.default_rng(len(text)).normal(0, 0.002, sum(map(len, tones)))
    return (np.concatenate(tones) + noise).astype(np.float32)


def sentence(key: str, words: tuple[str, ...] | list[str] = WORDS, length: int = 4) -> str:
    """Some words; the same for the same key."""
    return " ".join(random.Random(key).choices(words, k=length))


def make_librispeech(
    folder: Path,
    parts: tuple[str, ...] = (
        "train-clean-100",
        "dev-clean",
        "dev-other",
        "test-clean",
        "test-other",
    ),
    speakers: int = 2,
    utterances: int = 3,
    broken: bool = False,
) -> Path:
    """LibriSpeech/<part>/<speaker>/<chapter>/..., speakers of one to six digits.

    broken: a listed file that is not there, a file that is not listed, a line without text.
    """
    root = folder / "LibriSpeech"
    rows = []
    for p, part in enumerate(parts):
        for s in range(speakers):
            # 7 and 1034 before each other as numbers and as text.
            speaker = str(7 + 1027 * s + 40000 * p)
            chapter = root / part / speaker / str(121 + 1000 * s)
            chapter.mkdir(parents=True)
            rows.append(f"{speaker:<6}| F | {part:<16} | 25.00 | Reader {speaker}")
            lines = []
            for n in range(utterances):
                name = f"{speaker}-{chapter.name}-{n:04d}"
                text = sentence(f"librispeech {name}").upper()
                if n == 1:
                    text = f"{text.split()[0]}'S {text}"
                soundfile.write(chapter / f"{name}.flac", speech(text, speaker, "", 16000), 16000)
                lines.append(f"{name} {text}")
            if broken and p == s == 0:
                lines.append(f"{speaker}-{chapter.name}-9000 LISTED BUT ABSENT")
                lines.append(f"{speaker}-{chapter.name}-9001")
                for name in (9001, 9002):
                    soundfile.write(
                        chapter / f"{speaker}-{chapter.name}-{name}.flac", np.zeros(1600), 16000
                    )
            # Some copies of the corpus went through another system.
            end = "\r\n" if s else "\n"
            table = chapter / f"{speaker}-{chapter.name}.trans.txt"
            table.write_bytes("".join(line + end for line in lines).encode())
    (root / "SPEAKERS.TXT").write_text(
        "; Some pieces of information\n;ID  |SEX| SUBSET           |MINUTES| NAME\n"
        + "\n".join(rows)
        + "\n"
    )
    return root


def make_edacc(
    folder: Path,
    dev_conversations: int = 8,
    test_conversations: int = 4,
    utterances: int = 10,
    accents: tuple[tuple[str, ...], ...] = EDACC_ACCENTS,
    broken: bool = False,
) -> Path:
    """edacc_v1.0 with one 32 kHz recording a conversation; the pairs of accents go round.

    Args:
        utterances: of each conversation; the sixth and after carry the tags.
        accents: for each variety, what its speakers write.
        broken: segments that end before they start, run past the audio or are there twice, an
            utterance without speaker, one without text, a conversation without recording.
    """
    root = folder / "edacc_v1.0"
    (root / "data").mkdir(parents=True)
    background = []
    number = 0
    for name, conversations in (("dev", dev_conversations), ("test", test_conversations)):
        tables = {table: [] for table in ("segments", "text", "utt2spk", "stm", "conv.list")}
        for c in range(conversations):
            number += 1
            recording = f"EDACC-C{number:02d}"
            stated = []
            for side in (0, 1):
                # Neighbours talk to each other, so that every variety is in several conversations.
                wordings = accents[(c + side * (1 + c // len(accents))) % len(accents)]
                stated.append(wordings[(c + side) % len(wordings)])
                background.append(_background(f"{recording}-{'AB'[side]}", stated[-1], side))
            _conversation(root, recording, stated, utterances, tables)
        if broken:
            _break_edacc(root, f"EDACC-C{number:02d}", tables)
        (root / name).mkdir()
        for table, lines in tables.items():
            (root / name / table).write_text(
                "".join(f"{line}\n" for line in lines), encoding="utf-8"
            )
        (root / name / "stm.filt").write_text("".join(f"{line}\n" for line in tables["stm"]))
        (root / name / "company.ctm").write_text("")
    with open(root / "linguistic_background.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(BACKGROUND_COLUMNS)
        writer.writerows(background)
    (root / "evaluate.sh").write_text("#!/bin/bash\n")
    (root / "glm").write_text(";; mappings\n")
    return root


def _background(participant: str, accent: str, side: int) -> list[str]:
    # An answer over two lines, as people give them.
    return [
        participant,
        ("Female", "Male")[side],
        "prefer\nnot to say",
        "Master's, or so",
        accent,
        "French, Dutch",
        "1992",
        "1999",
    ]


def _conversation(
    root: Path, recording: str, accents: list[str], utterances: int, tables: dict[str, list[str]]
) -> None:
    tagged = {
        5: "<laugh> {}",
        6: "{} <breath> <click>",
        7: "<overlap> {}",
        8: "<no-speech>",
        9: "{} <foreign>",
    }
    audio, end = [], 0.0
    for n in range(utterances):
        speaker = f"{recording}-{'AB'[n % 2]}"
        utt_id = f"{recording}-{n:09d}"
        words = sentence(f"edacc {utt_id}")
        text = tagged.get(n, "{}").format(words)
        sound = speech(words, speaker, accents[n % 2].strip().casefold(), 32000)
        # Cut to whole hundredths of a second, so that the segments fit the audio.
        sound = sound[: len(sound) // 320 * 320]
        start, end = end, end + len(sound) / 32000
        audio.append(sound)
        tables["segments"].append(f"{utt_id} {recording} {start:.2f} {end:.2f}")
        tables["text"].append(f"{utt_id} {text}")
        tables["utt2spk"].append(f"{utt_id} {speaker}")
        said = "IGNORE_TIME_SEGMENT_IN_SCORING" if n == 0 else text.upper()
        tables["stm"].append(f"{recording} 1 {speaker} {start:.2f} {end:.2f} <female,l1> {said}")
    tables["conv.list"].append(recording)
    soundfile.write(root / "data" / f"{recording}.wav", np.concatenate(audio), 32000, "PCM_16")


def _break_edacc(root: Path, recording: str, tables: dict[str, list[str]]) -> None:
    for n, (source, start, end) in enumerate(
        [
            (recording, 3, 2),
            (recording, 1, 9999),
            (recording, 0, 1),
            (recording, 0, 1),
            ("EDACC-C99", 0, 1),
        ]
    ):
        utt_id = f"{recording}-{900 + n:09d}"
        tables["segments"].append(f"{utt_id} {source} {start:.2f} {end:.2f}")
        if n != 2:
            tables["utt2spk"].append(f"{utt_id} {recording}-A")
        if n != 3:
            tables["text"].append(f"{utt_id} broken")
    tables["segments"].append(tables["segments"][0])


def make_commonaccent_lists(
    folder: Path,
    clips: tuple[int, int, int] = (4, 1, 1),
    accents: tuple[str, ...] = COMMONACCENT_LABELS,
    broken: bool = False,
) -> Path:
    """The published lists in data/en_cv7, and the audio in cv_corpus_v1/cv-valid-train.

    Args:
        clips: of each accent, in train, dev and test.
        broken: a clip that is not there, an empty one, one without text, an unbalanced quote.
    """
    audio = folder / "cv_corpus_v1" / "cv-valid-train"
    audio.mkdir(parents=True)
    lists = folder / "data" / "en_cv7"
    lists.mkdir(parents=True)
    number = 0
    for name, count in zip(("train", "dev", "test"), clips):
        rows = []
        for accent in accents:
            for _ in range(count):
                number += 1
                file = f"sample-{number:06d}.mp3"
                text = sentence(f"commonaccent {number}")
                sound = speech(text, file, accent, 32000)
                soundfile.write(audio / file, sound, 32000, format="MP3")
                # Their machine had one more folder for some clips; labels are not all alike.
                there = "cv-valid-train/sample-00" if number % 2 else "cv-valid-train"
                written = accent if number % 7 else f" {accent.upper()} "
                rows.append(
                    [
                        len(rows),
                        f"cv-valid-train-{file[:-4]}",
                        f"/remote/some.host/CommonVoice/{there}/{file}",
                        "mp3",
                        text,
                        f"{len(sound) / 32000:.3f}",
                        written,
                    ]
                )
        with open(lists / f"{name}.csv", "w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["ID", "utt_id", "wav", "wav_format", "text", "duration", "accent"])
            writer.writerows(rows)
            if broken and name == "train":
                place = "/remote/some.host/CommonVoice/cv-valid-train"
                (audio / "sample-999999.mp3").write_bytes(b"")
                writer.writerow(
                    [1, "absent", f"{place}/sample-888888.mp3", "mp3", "not there", "1.0", "us"]
                )
                writer.writerow(
                    [2, "empty", f"{place}/sample-999999.mp3", "mp3", "no bytes", "1.0", "us"]
                )
                writer.writerow(
                    [3, "textless", f"{place}/sample-000001.mp3", "mp3", " ", "1.0", "us"]
                )
                handle.write(f'4,quote,{place}/sample-000001.mp3,mp3,"an open quote,1.0,us\r\n')
    return folder


COMMONVOICE_COLUMNS = {
    "5.1": "client_id path sentence up_votes down_votes age gender accent locale segment",
    "13.0": "client_id path sentence up_votes down_votes age gender accents variant locale segment",
    "17.0": "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender "
    "accents variant locale segment",
}


def make_commonvoice_en(
    folder: Path,
    accents: tuple[str, ...] = COMMONVOICE_ACCENTS,
    speakers: int = 6,
    clips: int = 3,
    release: str = "17.0",
    seed: int = 0,
    broken: bool = False,
) -> Path:
    """cv-corpus-<release>/en with validated.tsv.

    Args:
        speakers: of each accent.
        clips: of each speaker.
        seed: of the order of the rows; the clips are the same.
        broken: the rows and clips of `_broken_clips`.
    """
    root = folder / f"cv-corpus-{release}-2024-03-15"
    rows = []
    for a, accent in enumerate(accents):
        for s in range(speakers):
            for c in range(clips):
                stated = (accent, f"{accent},Low|Demure", accent.lower())[s % 3]
                rows.append(
                    (
                        f"en {a} {s}",
                        f"common_voice_en_{a}{s:03d}{c:02d}.mp3",
                        sentence(f"cv {a} {s} {c}").capitalize() + ".",
                        stated,
                    )
                )
    for n, stated in enumerate(["", "Midwestern", "England English|Scottish English"]):
        rows.append((f"en none {n}", f"common_voice_en_9{n:05d}.mp3", "Left out.", stated))
    random.Random(seed).shuffle(rows)
    _write_release(root / "en", {"validated": rows}, release, "en", broken)
    return root


def make_commonvoice_fa(
    folder: Path,
    clips: tuple[int, int, int] = (24, 6, 6),
    release: str = "17.0",
    speakers: int = 3,
    broken: bool = False,
) -> Path:
    """cv-corpus-<release>/fa with train, dev and test.tsv: Arabic letters, marks, ZWNJ, quotes.

    Args:
        clips: in train, dev and test.
        speakers: of each set; no speaker is in two.
    """
    root = folder / f"cv-corpus-{release}-2024-03-15"
    odd = ("{} مي‌شود", "«{}»؛", '"{} كتابِ', "\u200f{}\u00a0۱۲٣", "{} !", "{}")
    tables = {}
    for name, count in zip(("train", "dev", "test"), clips):
        tables[name] = [
            (
                f"fa {name} {n % speakers}",
                f"common_voice_fa_{len(name)}{name.index('t') if 't' in name else 9}{n:05d}.mp3",
                odd[n % len(odd)].format(sentence(f"fa {name} {n}", PERSIAN_WORDS)),
                "",
            )
            for n in range(count)
        ]
    _write_release(root / "fa", tables, release, "fa", broken)
    return root


def _write_release(
    folder: Path,
    tables: dict[str, list[tuple[str, str, str, str]]],
    release: str,
    locale: str,
    broken: bool,
) -> None:
    (folder / "clips").mkdir(parents=True)
    columns = COMMONVOICE_COLUMNS[release].split()
    for name, rows in tables.items():
        lines = ["\t".join(columns)]
        for speaker, path, text, accent in rows:
            values = {
                "client_id": hashlib.sha512(speaker.encode()).hexdigest(),
                "path": path,
                "sentence": text,
                "accents": accent,
                "accent": accent,
                "locale": locale,
                "up_votes": "2",
                "down_votes": "0",
                "gender": "female_feminine" if len(speaker) % 2 else "",
            }
            lines.append("\t".join(values.get(column, "") for column in columns))
            # 0.03 s a letter keeps the encoder quick.
            sound = speech(text, speaker, accent.split(",")[0], 32000, 0.03)
            soundfile.write(folder / "clips" / path, sound, 32000, format="MP3")
        if broken:
            accent = max(row[3] for row in rows) and COMMONVOICE_ACCENTS[0]
            lines += _broken_clips(folder / "clips", columns, name, accent)
        (folder / f"{name}.tsv").write_bytes(
            ("\ufeff" + "".join(f"{line}\n" for line in lines)).encode()
        )
    for name in ("invalidated", "other", "reported"):
        (folder / f"{name}.tsv").write_text("\t".join(columns) + "\n")


def _broken_clips(clips: Path, columns: list[str], name: str, accent: str) -> list[str]:
    """Clips that are absent, empty or no audio; a sentence with a tab, and none at all."""
    (clips / f"empty_{name}.mp3").write_bytes(b"")
    (clips / f"noise_{name}.mp3").write_bytes(b"this is no audio" * 10)
    lines = []
    for path, text in (
        (f"absent_{name}.mp3", "absent"),
        (f"empty_{name}.mp3", "empty"),
        (f"noise_{name}.mp3", "noise"),
        (f"tab_{name}.mp3", "a\tb"),
        (f"mute_{name}.mp3", ""),
    ):
        values = {
            "client_id": "b" * 128,
            "path": path,
            "sentence": text,
            "accents": accent,
            "accent": accent,
        }
        lines.append("\t".join(values.get(column, "") for column in columns))
    return lines


def make_pdid(
    folder: Path,
    dialects: tuple[str, ...] = ("Tehrani", "Isfahani", "Shirazi", "Yazdi"),
    speakers: int = 5,
    utterances: int = 4,
    columns: tuple[str, str, str, str] = ("file_name", "transcript", "speaker_id", "dialect"),
    table: str = "metadata.csv",
    splits: bool = False,
    broken: bool = False,
) -> Path:
    """A folder with a table and wavs/: the recipe's guess of a layout that is not known.

    Args:
        speakers: of each dialect.
        utterances: of each speaker.
        columns: for audio, text, speaker and accent.
        splits: whether there is a column split.
        broken: an absent file, one of zero bytes, an empty text, a row with a stray separator.
    """
    root = folder / "PDID"
    (root / "wavs").mkdir(parents=True)
    rows = []
    for d, dialect in enumerate(dialects):
        for s in range(speakers):
            for n in range(utterances):
                name = f"{d}{s:02d}_{n:02d}.wav"
                text = sentence(f"pdid {name}", PERSIAN_WORDS).replace("ی", "ي")
                sound = speech(text, f"pdid {d} {s}", dialect, 16000)
                soundfile.write(root / "wavs" / name, sound, 16000, "PCM_16")
                # One person's label in another case and with blanks.
                label = f" {dialect.upper()} " if s == 1 else dialect
                split = "train" if s < speakers - 2 else ("validation", "test")[s % 2]
                rows.append([name, text, f"spk{d}{s:02d}", label] + [split] * splits)
    if broken:
        (root / "wavs" / "zero.wav").write_bytes(b"")
        soundfile.write(root / "wavs" / "mute.wav", np.zeros(16000), 16000)
        tail = ["spk000", dialects[0]] + ["train"] * splits
        rows += [
            ["absent.wav", "سلام", *tail],
            ["zero.wav", "سلام", *tail],
            ["mute.wav", "", *tail],
            ["stray.wav", "سلام", *tail, "more"],
        ]
    with open(root / table, "w", encoding="utf-8-sig", newline="") as handle:
        delimiter = "," if table.endswith(".csv") else "\t"
        writer = csv.writer(handle, delimiter=delimiter)
        writer.writerow([*columns, *["split"] * splits])
        writer.writerows(rows)
    return root


MAKERS = {
    "librispeech": make_librispeech,
    "edacc": make_edacc,
    "commonaccent": make_commonaccent_lists,
    "commonvoice_en": make_commonvoice_en,
    "commonvoice_fa": make_commonvoice_fa,
    "pdid": make_pdid,
}

if __name__ == "__main__":
    print(MAKERS[sys.argv[1]](Path(sys.argv[2])))
