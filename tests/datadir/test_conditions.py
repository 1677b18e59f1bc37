"""Noise, rooms and babble: ratios measured anew from mix minus clean, decays, talkers, bad input."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile
from scipy.signal import welch

from espnet_saliency.datadir import noise, rooms
from espnet_saliency.datadir.activity import active_samples
from espnet_saliency.datadir.audio import format_audio
from espnet_saliency.datadir.conditions import (
    generator,
    mix_condition,
    parse_condition,
    read_mixes,
)
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.datadir.validate import validate_data_dir
from espnet_saliency.errors import UserError

FS = 16000


def speech(seed: int, seconds: float = 1.2, level: float = 0.05) -> np.ndarray:
    """Bursts of noise of 0.1 to 0.3 s with pauses 50 dB below between them."""
    rng = np.random.default_rng(seed)
    envelope = np.full(round(seconds * FS), level * 10 ** (-50 / 20))
    start = round(rng.uniform(0, 0.2) * FS)
    while start < len(envelope):
        end = start + round(rng.uniform(0.1, 0.3) * FS)
        envelope[start:end] = level * rng.uniform(0.6, 1.4)
        start = end + round(rng.uniform(0.05, 0.3) * FS)
    return envelope * rng.standard_normal(len(envelope))


@pytest.fixture
def make_set(tmp_path, utterance, prepare):
    """make_set({utterance id: samples}) -> a formatted set."""

    def make(audio, name="test", fs=FS):
        (tmp_path / "wav").mkdir(exist_ok=True)
        utterances = []
        for utt, samples in audio.items():
            soundfile.write(tmp_path / "wav" / f"{utt}.wav", samples, fs)
            path = tmp_path / "wav" / f"{utt}.wav"
            utterances.append(utterance(path, utt, accent=utt[:1], columns={"l1": "x"}))
        source, _, _ = prepare(utterances, name)
        format_audio(source, tmp_path / "dump" / name)
        return tmp_path / "dump" / name

    return make


@pytest.fixture
def formatted(make_set):
    """Ten utterances of five speakers, 0.7 to 1.6 s."""
    names = [f"{speaker}-{n}" for speaker in ("ann", "bob", "cat", "dan", "eve") for n in (1, 2)]
    return make_set({name: speech(i, 0.7 + i / 10) for i, name in enumerate(names)})


def audio_of(folder):
    return {utt: soundfile.read(path)[0] for utt, path in read_table(folder / "wav.scp").items()}


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.flac")}


def active_frames(samples) -> list[slice]:
    """ITU-T P.56 by frames, written out: louder frames first, while the softest is near the mean."""
    frames = [slice(n, min(n + 320, len(samples))) for n in range(0, len(samples), 320)]
    power = {f.start: sum(samples[f] ** 2) / len(samples[f]) for f in frames}
    frames.sort(key=lambda f: -power[f.start])
    for count in range(len(frames), 0, -1):
        level = sum(power[f.start] for f in frames[:count]) / count
        if 10 * np.log10(level / power[frames[count - 1].start]) < 15.9:
            return frames[:count]
    raise AssertionError("no frame is active")


def measured_snr(clean, interference) -> float:
    frames = active_frames(clean)
    powers = [sum(sum(x[f] ** 2) for f in frames) for x in (clean, interference)]
    return 10 * np.log10(powers[0] / powers[1])


@pytest.mark.parametrize(
    "name, kind, snr",
    [("clean", "clean", None), ("reverb", "reverb", None), ("noise_20", "noise", 20.0),
     ("noise_-5", "noise", -5.0), ("babble_2.5", "babble", 2.5)],
)  # fmt: skip
def test_names(name, kind, snr):
    condition = parse_condition(name)
    assert (condition.kind, condition.snr, condition.name) == (kind, snr, name)


@pytest.mark.parametrize(
    "name, message",
    [
        ("nois_20", "'nois_20' is not known"),
        ("reverb_3", "'reverb_3' is not known"),
        ("noise", "'' is no number"),
        ("noise_loud", "'loud' is no number"),
        ("babble_nan", "'nan' is no number"),
        ("noise_1e1", "'1e1' is no number"),
        ("noise_99", "between -30 and 60 dB, not at 99"),
    ],
)
def test_names_that_are_none(name, message):
    with pytest.raises(UserError, match=message):
        parse_condition(name)


def test_one_name_for_one_ratio():
    assert [parse_condition(f"noise_{x}").name for x in ("10.0", "010", "-0")] == [
        "noise_10", "noise_10", "noise_0"
    ]  # fmt: skip


def test_activity_is_the_burst_and_not_the_pause():
    samples = np.full(3200, 0.001)
    samples[640:1600] = 0.1
    assert np.flatnonzero(active_samples(samples, FS)).tolist() == list(range(640, 1600))
    assert active_samples(samples[:100], FS).all()  # shorter than a frame
    assert not active_samples(np.zeros(1000), FS).any()


def test_activity_keeps_what_lies_15_9_db_below_the_active_level():
    # frames of power 1, 1 and p: with p in, the level is (2 + p) / 3
    def active(db):
        powers = np.repeat([1.0, 1.0, 10 ** (db / 10)], 320)
        return active_samples(np.sqrt(powers), FS)[-1]

    limit = 10 * np.log10(2 / (3 * 10**1.59 - 1))  # p = level / 10^1.59
    assert active(limit + 0.01) and not active(limit - 0.01)


@pytest.mark.parametrize("name", ["noise_20", "noise_0", "noise_-5", "babble_10", "babble_0"])
def test_the_ratio_is_the_one_asked_for(tmp_path, formatted, name):
    target = tmp_path / "dump" / f"test_{name}"
    done = mix_condition(formatted, target, parse_condition(name))
    assert (done.utterances, done.silent, done.unusable) == (10, 0, ())
    clean, mixed, said = audio_of(formatted), audio_of(target), read_mixes(target)
    assert list(mixed) == list(clean)
    for utt, samples in mixed.items():
        assert len(samples) == len(clean[utt])
        added = samples / float(said[utt]["scale"]) - clean[utt]
        assert measured_snr(clean[utt], added) == pytest.approx(float(name.split("_")[1]), abs=0.02)


def test_loud_speech_is_scaled_whole_and_not_clipped(tmp_path, make_set):
    source = make_set({"ann-1": speech(1, level=0.25).clip(-1, 0.9999), "bob-1": speech(2)})
    done = mix_condition(source, tmp_path / "noisy", parse_condition("noise_0"))
    clean, mixed = audio_of(source)["ann-1"], audio_of(tmp_path / "noisy")["ann-1"]
    scale = float(read_mixes(tmp_path / "noisy")["ann-1"]["scale"])
    assert done.scaled == 1 and scale < 1
    assert np.abs(mixed).max() == pytest.approx(32767 / 32768)
    assert np.sum(np.abs(mixed) > 0.999) == 1  # one peak, not a row of clipped samples
    assert measured_snr(clean, mixed / scale - clean) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("name", ["noise_10", "babble_10", "reverb"])
def test_the_same_whatever_nj_and_another_seed_is_another_mix(tmp_path, formatted, name):
    def make(folder, **options):
        mix_condition(formatted, tmp_path / folder, parse_condition(name), **options)
        return files(tmp_path / folder)

    one = make("one", seed=3)
    assert len(one) == 10
    assert make("two", seed=3, nj=4) == one
    assert (tmp_path / "one" / "mixes.tsv").read_bytes() == (tmp_path / "two" / "mixes.tsv").read_bytes()
    other = make("three", seed=4)
    assert not any(other[path] == one[path] for path in one)


@pytest.mark.parametrize("name", ["noise_10", "reverb"])
def test_an_utterance_is_mixed_alike_in_a_smaller_set(tmp_path, formatted, make_set, name):
    mix_condition(formatted, tmp_path / "all", parse_condition(name))
    some = make_set({utt: x for utt, x in audio_of(formatted).items() if "-2" in utt}, "some")
    mix_condition(some, tmp_path / "part", parse_condition(name))
    whole, part = files(tmp_path / "all"), files(tmp_path / "part")
    assert len(part) == 5 and all(whole[path] == part[path] for path in part)


def test_tables_are_those_of_the_set(tmp_path, formatted):
    target = tmp_path / "dump" / "test_noise_10"
    mix_condition(formatted, target, parse_condition("noise_10"))
    assert validate_data_dir(target) == 10
    same = "text utt2spk spk2utt utt2accent utt2l1 utt2dur utt2num_samples category2utt".split()
    for name in same:
        assert (target / name).read_bytes() == (formatted / name).read_bytes()
    assert sorted(p.name for p in target.iterdir()) == sorted(
        [*same, "data", "mixes.tsv", "wav.scp"]
    )
    mixed = read_table(target / "wav.scp")
    assert mixed["ann-1"] == str(target / "data" / "format.00" / "ann-1.flac")
    assert soundfile.info(mixed["ann-1"]).subtype == "PCM_16"


def test_generated_noise_has_the_spectrum_of_speech():
    samples, said = noise.speech_shaped(60 * FS, FS, np.random.default_rng(1))
    hz, density = welch(samples, FS, nperseg=8192)

    def band(centre):
        inside = (hz >= centre * 2 ** (-1 / 6)) & (hz < centre * 2 ** (1 / 6))
        return 10 * np.log10(density[inside].sum())

    # Byrne et al. (1994), Table II, both sexes, less the level at 1 kHz
    table = {250: 60.3, 500: 62.1, 2000: 48.7, 4000: 45.6, 6300: 44.3}
    for centre, level in table.items():
        assert band(centre) - band(1000) == pytest.approx(level - 53.7, abs=0.7)
    assert said == "speech-shaped" and np.std(samples) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("rt60", [0.2, 0.5, 0.8])
def test_simulated_rooms_decay_in_the_time_asked_for(rt60):
    response = rooms.polack(rt60, 3.0, FS, np.random.default_rng(5))
    direct, tail = response[0] ** 2, response[1:] ** 2
    assert 10 * np.log10(direct / tail.sum()) == pytest.approx(3.0)
    # T30: a line through Schroeder's integral of the diffuse sound, from -5 to -35 dB
    decay = 10 * np.log10(np.cumsum(tail[::-1])[::-1] / tail.sum())
    seconds = np.arange(len(decay)) / FS
    part = (decay <= -5) & (decay >= -35)
    slope, _ = np.polyfit(seconds[part], decay[part], 1)
    assert -60 / slope == pytest.approx(rt60, rel=0.1)


def test_rooms_differ_and_lie_within_their_ranges():
    said = [rooms.simulated(FS, np.random.default_rng(n))[2] for n in range(200)]
    times = [float(text.split("s ")[0].removeprefix("rt60=")) for text in said]
    assert rooms.RT60[0] <= min(times) < 0.25 and 0.75 < max(times) <= rooms.RT60[1]


def test_the_direct_sound_stays_in_place_where_a_reflection_is_louder():
    clean, response = speech(1), np.array([0.2, 1.0, 0.0, -0.5])
    heard = rooms.reverberate(clean, response, 1)
    expected = [
        sum(response[k] * clean[n + 1 - k] for k in range(4) if 0 <= n + 1 - k < len(clean))
        for n in (0, 5, len(clean) - 1)
    ]
    assert len(heard) == len(clean)
    assert heard[[0, 5, -1]] == pytest.approx(expected)


def test_reverberant_speech_stays_in_place_and_as_loud(tmp_path, formatted):
    target = tmp_path / "reverb"
    mix_condition(formatted, target, parse_condition("reverb"))
    clean, mixed, said = audio_of(formatted), audio_of(target), read_mixes(target)
    assert len({row["with"] for row in said.values()}) == 10  # a room each
    for utt, samples in mixed.items():
        assert len(samples) == len(clean[utt])
        lags = np.correlate(samples, clean[utt][400:-400], "valid")
        assert np.argmax(lags) == 400
        active = np.concatenate([np.arange(f.start, f.stop) for f in active_frames(clean[utt])])
        powers = [np.mean(x[active] ** 2) for x in (samples / float(said[utt]["scale"]), clean[utt])]
        assert 10 * np.log10(powers[0] / powers[1]) == pytest.approx(0, abs=0.02)
        assert not np.allclose(samples, clean[utt], atol=0.01)


def test_measured_rooms_are_aligned_and_noises_beside_them_left_out(tmp_path, formatted):
    folder = tmp_path / "rirs" / "RIRS_NOISES"
    echo = np.zeros(400)
    echo[[150, 250]] = 0.5, -0.25  # direct sound after 150 samples, an echo 100 later
    for name in ("simulated_rirs/smallroom/Room001/a.wav", "real_rirs_isotropic_noises/b_rir_x.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, echo, FS)
    (folder / "pointsource_noises").mkdir()
    soundfile.write(folder / "pointsource_noises" / "c.wav", speech(9), FS)
    soundfile.write(folder / "real_rirs_isotropic_noises" / "RVB_type1_noise_1.wav", speech(9), FS)
    assert [p.stem for p in rooms.room_files(tmp_path / "rirs")] == ["b_rir_x", "a"]
    mix_condition(formatted, tmp_path / "out", parse_condition("reverb"), rir_dir=tmp_path / "rirs")
    clean, mixed = audio_of(formatted), audio_of(tmp_path / "out")
    assert len({row["with"] for row in read_mixes(tmp_path / "out").values()}) == 2
    for utt, samples in mixed.items():
        heard = clean[utt].copy()
        heard[100:] -= 0.5 * clean[utt][:-100]
        heard *= (heard @ samples) / (heard @ heard)
        assert np.abs(heard - samples).max() < 1e-4


def spectrum(samples, fs=FS):
    """Frequency of the strongest bin, in Hz."""
    amplitudes = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 17))
    return np.argmax(amplitudes) * fs / (1 << 17)


def test_noise_of_musan_is_resampled_repeated_and_only_its_noise_part(tmp_path, tone, formatted):
    musan = tmp_path / "musan"
    tone(musan / "noise" / "free-sound" / "a.wav", seconds=0.3, fs=8000, hz=1000)  # short: repeated
    tone(musan / "noise" / "sound-bible" / "b.wav", seconds=9, fs=44100, hz=1000)
    tone(musan / "music" / "c.wav", hz=3000), tone(musan / "speech" / "d.wav", hz=3000)
    (musan / "noise" / "README").write_text("no audio")
    for folder in (musan, tmp_path):  # the folder itself, or the one that holds it
        assert [p.name for p in noise.noise_files(folder)] == ["a.wav", "b.wav"]
    mix_condition(formatted, tmp_path / "out", parse_condition("noise_-20"), noise_dir=musan)
    clean, said = audio_of(formatted), read_mixes(tmp_path / "out")
    assert {row["with"][-5:] for row in said.values()} == {"a.wav", "b.wav"}
    for utt, samples in audio_of(tmp_path / "out").items():
        added = samples / float(said[utt]["scale"]) - clean[utt]
        assert spectrum(added) == pytest.approx(1000, abs=3)
        assert np.std(added[-1600:]) == pytest.approx(np.std(added[:1600]), rel=0.1)


def test_noises_that_cannot_be_used_give_way_and_are_named(tmp_path, tone, formatted):
    folder = tmp_path / "noises"
    tone(folder / "good.wav", seconds=3)
    soundfile.write(folder / "silent.wav", np.zeros(FS), FS)
    (folder / "broken.flac").write_bytes(b"fLaC broken")
    done = mix_condition(formatted, tmp_path / "out", parse_condition("noise_5"), noise_dir=folder)
    assert {row["with"] for row in read_mixes(tmp_path / "out").values()} == {str(folder / "good.wav")}
    assert done.unusable == (
        f"not audio: {folder / 'broken.flac'}",
        f"silent where it is needed: {folder / 'silent.wav'}",
    )


def test_speech_of_a_few_steps_is_mixed_as_any_other(tmp_path, make_set):
    soft = np.sign(speech(1)) * 2 / 32768
    source = make_set({"ann-1": soft, "bob-1": speech(2), "cat-1": speech(3)})
    for name in ("reverb", "babble_0", "noise_0"):
        done = mix_condition(source, tmp_path / name, parse_condition(name))
        assert (done.utterances, done.unusable) == (3, ())


def test_noise_that_is_loud_in_the_pauses_alone_gives_way(tmp_path, tone, formatted):
    """Brought to the ratio by what there is of it between its bangs, it would drown the speech."""
    folder = tmp_path / "noises"
    tone(folder / "hum.wav", seconds=3)
    rng = np.random.default_rng(1)
    gated = rng.integers(-1, 2, 30 * FS) / 32768  # dither of one step
    for start in range(8000, len(gated), 3 * FS):
        gated[start : start + 800] = 0.5 * rng.standard_normal(800)
    soundfile.write(folder / "gated.wav", gated.clip(-1, 1), FS)
    done = mix_condition(formatted, tmp_path / "out", parse_condition("noise_10"), noise_dir=folder)
    said = read_mixes(tmp_path / "out")
    assert done.unusable == (f"nearly silent where it is needed: {folder / 'gated.wav'}",)
    # A bang in the speech itself is noise like any other; steps of 16 bit are never brought up to its level.
    assert done.smallest > 0.03 and all(float(row["gain_db"]) < 50 for row in said.values())


@pytest.mark.parametrize(
    "samples, fs, message",
    [
        (np.full(1, 0.5), 96000, "too short to be heard at 16000 Hz: .*a.wav"),
        (np.full(16000, 1e300), 16000, "samples of 1e\\+300, where 1 is full scale: .*a.wav"),
    ],
)
@pytest.mark.parametrize("option, name", [("noise_dir", "noise_10"), ("rir_dir", "reverb")])
def test_audio_that_is_none(tmp_path, formatted, samples, fs, message, option, name):
    (tmp_path / "given").mkdir()
    soundfile.write(tmp_path / "given" / "a.wav", samples, fs, subtype="DOUBLE")
    with pytest.raises(UserError, match=message):
        mix_condition(formatted, tmp_path / "out", parse_condition(name), **{option: tmp_path / "given"})


def test_a_minute_of_music_is_no_room(tmp_path, tone, formatted):
    tone(tmp_path / "musan" / "a.wav", seconds=60)
    with pytest.raises(UserError, match="60 s are no impulse response of a room: .*a.wav"):
        mix_condition(formatted, tmp_path / "out", parse_condition("reverb"), rir_dir=tmp_path / "musan")


def test_which_files_of_a_folder_are_noises_and_which_are_rooms(tmp_path):
    def files(found):
        return [path.relative_to(tmp_path).as_posix() for path in found]

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    # RIRS_NOISES holds both.
    rirs = "rirs/RIRS_NOISES"
    noises = [f"{rirs}/pointsource_noises/c.wav", f"{rirs}/real_rirs_isotropic_noises/RVB_noise_1.wav"]
    responses = [f"{rirs}/real_rirs_isotropic_noises/RVB_rir_1.wav", f"{rirs}/simulated_rirs/smallroom/a.wav"]
    make(*noises, *responses)
    for folder in (tmp_path / "rirs", tmp_path / rirs):
        assert files(noise.noise_files(folder)) == noises
        assert files(rooms.room_files(folder)) == responses
    # A folder of the user's own: all of it, whatever its files and folders are called.
    make("own/noise/a.wav", "own/street/b.wav", "own/noiseless_office.wav")
    own = ["own/noise/a.wav", "own/noiseless_office.wav", "own/street/b.wav"]
    assert files(noise.noise_files(tmp_path / "own")) == files(rooms.room_files(tmp_path / "own")) == own
    # Links to folders are followed, once.
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "there").symlink_to(tmp_path / "own" / "street")
    (tmp_path / "linked" / "loop").symlink_to(tmp_path / "linked")
    assert files(noise.noise_files(tmp_path / "linked")) == ["linked/there/b.wav"]


def test_a_file_name_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "stra\udcdfe.wav").touch()
    with pytest.raises(UserError, match=r"1 names of files are not UTF-8, the first is 'stra\\udcdfe.wav'"):
        noise.noise_files(tmp_path)


@pytest.mark.parametrize(
    "fill, message",
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "no audio in it"),
        (lambda folder: (folder.mkdir(), (folder / "a.wav").write_bytes(b"")), "zero bytes: .*a.wav"),
    ],
)
@pytest.mark.parametrize("option, name", [("noise_dir", "noise_10"), ("rir_dir", "reverb")])
def test_folders_without_audio(tmp_path, formatted, option, name, fill, message):
    fill(tmp_path / "given")
    with pytest.raises(UserError, match=message) as error:
        mix_condition(
            formatted, tmp_path / "out", parse_condition(name), **{option: tmp_path / "given"}
        )
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_babble_is_of_three_other_speakers(tmp_path, formatted):
    mix_condition(formatted, tmp_path / "out", parse_condition("babble_10"))
    heard = set()
    for utt, row in read_mixes(tmp_path / "out").items():
        talkers = [name.split("-")[0] for name in row["with"].split()]
        assert len(talkers) == len(set(talkers)) == 3
        assert utt.split("-")[0] not in talkers
        heard.update(talkers)
    assert heard == {"ann", "bob", "cat", "dan", "eve"}


def test_what_is_heard_in_babble_is_the_other_speaker(tmp_path, make_set):
    # one frequency a speaker: two speakers, so each hears the other alone, repeated to its length
    def voice(hz, seconds):
        return 0.1 * np.sin(2 * np.pi * hz * np.arange(round(seconds * FS)) / FS)

    source = make_set({"ann-1": voice(400, 3), "ann-2": voice(400, 0.5), "bob-1": voice(1500, 1)})
    mix_condition(source, tmp_path / "out", parse_condition("babble_0"))
    clean, said = audio_of(source), read_mixes(tmp_path / "out")
    for utt, samples in audio_of(tmp_path / "out").items():
        added = samples / float(said[utt]["scale"]) - clean[utt]
        assert spectrum(added) == pytest.approx(400 if utt == "bob-1" else 1500, abs=3)
        assert measured_snr(clean[utt], added) == pytest.approx(0, abs=0.02)
    assert said["ann-1"]["with"] == said["ann-2"]["with"] == "bob-1"


def test_talkers_speak_where_they_are_heard_and_pauses_stay_quiet(tmp_path, make_set):
    """A pause that is brought up to the level of speech would be loud hiss in place of a talker."""
    rng = np.random.default_rng(3)
    pausing = np.concatenate([0.1 * rng.standard_normal(4000), 1e-4 * rng.standard_normal(60000)])
    source = make_set({"ann-1": speech(1, 0.3), "bob-1": pausing})
    talkers = noise.Talkers(read_table(source / "wav.scp"), read_table(source / "utt2spk"), source)
    begins = 0
    for seed in range(20):
        heard, said = talkers.draw("ann", 4000, FS, np.random.default_rng(seed))
        powers = [np.mean(part**2) for part in np.split(heard, 10)]
        assert said == "bob-1" and max(powers) < 1.4
        begins += np.mean(heard[:40] ** 2) > 0.1
    # The last frame with speech is half a pause.
    assert begins >= 18


def test_a_set_of_one_speaker_borrows_its_talkers(tmp_path, formatted, make_set):
    source = make_set({"zoe-1": speech(1), "zoe-2": speech(2)}, "test_unseen")
    mix_condition(source, tmp_path / "out", parse_condition("babble_10"), talkers_of=formatted)
    said = read_mixes(tmp_path / "out")
    assert list(said) == ["zoe-1", "zoe-2"]
    for row in said.values():
        talkers = [name.split("-")[0] for name in row["with"].split()]
        assert len(set(talkers)) == 3 and set(talkers) <= {"ann", "bob", "cat", "dan", "eve"}
    # With speakers of its own a set keeps to itself.
    both = make_set({"yan-1": speech(3), "zoe-1": speech(1)}, "both")
    mix_condition(both, tmp_path / "two", parse_condition("babble_10"), talkers_of=formatted)
    assert read_mixes(tmp_path / "two")["zoe-1"]["with"] == "yan-1"


def test_babble_of_one_speaker_is_refused(tmp_path, make_set):
    source = make_set({"ann-1": speech(1), "ann-2": speech(2)})
    with pytest.raises(UserError, match="all utterances are of ann; leave babble out"):
        mix_condition(source, tmp_path / "out", parse_condition("babble_10"))


@pytest.mark.parametrize("name", ["noise_10", "babble_10", "reverb"])
def test_a_silent_utterance_stays_silent_and_is_counted(tmp_path, make_set, name):
    source = make_set({"ann-1": np.zeros(8000), "bob-1": speech(1), "cat-1": speech(2)})
    done = mix_condition(source, tmp_path / "out", parse_condition(name))
    assert (done.utterances, done.silent) == (3, 1)
    assert not audio_of(tmp_path / "out")["ann-1"].any()
    assert read_mixes(tmp_path / "out")["ann-1"] == {"with": "", "gain_db": "0.0000", "scale": "1.000000"}


def test_a_set_whose_audio_is_gone_is_named(tmp_path, formatted):
    shutil.rmtree(formatted / "data")
    with pytest.raises(UserError, match=r"file missing: .*ann-1.flac: utterance ann-1; format"):
        mix_condition(formatted, tmp_path / "out", parse_condition("noise_10"))


def test_generators_depend_on_seed_condition_and_utterance():
    cases = [(1, "noise_10", "a"), (2, "noise_10", "a"), (1, "noise_20", "a"), (1, "noise_10", "b")]
    first = [generator(s, parse_condition(c), u).integers(2**60) for s, c, u in cases]
    assert len(set(first)) == 4
    assert generator(1, parse_condition("noise_10"), "a").integers(2**60) == first[0]
