"""Stored maps of what the words need: those of the first recogniser, and masks that keep off them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
import yaml
from espnet2.tasks.asr import ASRTask
from espnet_saliency import plugin
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.errors import UserError
from espnet_saliency.saliency import archive as archives
from espnet_saliency.saliency.heldout import log_mel, read_audio
from espnet_saliency.saliency.phonetic import CTCRecogniser, ctc_saliency
from espnet_saliency.saliency.specaug import SaliencySpecAug
from espnet_saliency.saliency.stored import write_maps
from espnet_saliency.saliency.stored_phonetic import PhoneticArchive, pooled, write_phonetic_maps
from torch.nn.utils.rnn import pad_sequence

CONFIG = {
    "token_list": ["<blank>", "<unk>", "a", "b", "<sos/eos>"], "frontend": "default",
    "frontend_conf": {"fs": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80},
    "specaug": None, "specaug_conf": {}, "normalize": "utterance_mvn", "normalize_conf": {},
    "preencoder": None, "preencoder_conf": {}, "postencoder": None, "postencoder_conf": {},
    "encoder": "conformer",
    "encoder_conf": {"output_size": 16, "attention_heads": 2, "linear_units": 16, "num_blocks": 1},
    "decoder": None, "decoder_conf": {}, "model": "espnet", "model_conf": {"ctc_weight": 1.0},
    "ctc_conf": {}, "joint_net_conf": {}, "input_size": None, "init": None,
}  # fmt: skip


def write_recogniser(folder, seed: int = 1, **changes):
    """An experiment of an untrained recogniser."""
    config = {**CONFIG, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ASRTask.build_model(argparse.Namespace(**config))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(model.state_dict(), folder / "valid.acc.ave.pth")
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return write_recogniser(tmp_path_factory.mktemp("exp") / "asr_first")


@pytest.fixture(scope="module")
def archive(first, glides, tmp_path_factory):
    folder = tmp_path_factory.mktemp("phonetic")
    write_phonetic_maps(first, glides, folder)
    return folder


@pytest.fixture(scope="module")
def accent_archive(experiment, glides, tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    write_maps(experiment, glides, folder)
    return folder


def features(network, data, utterances):
    wav = read_table(data / "wav.scp")
    return log_mel(network, [read_audio(wav[u], 16000) for u in utterances])


def stream(name, maps) -> dict[str, torch.Tensor]:
    """What ESPnet hands over for a batch of maps (T', F') each."""
    lengths = torch.tensor([len(one) for one in maps])
    return {name: pad_sequence(list(maps), batch_first=True), f"{name}_lengths": lengths}


def read(folder, utterances):
    matrices = kaldiio.load_scp(str(folder / "maps.scp"))
    return [torch.from_numpy(matrices[u].copy()) for u in utterances]


def by_hand(recogniser, feats) -> np.ndarray:
    """The map of one utterance (1, T, F): means of blocks, the last of fewer frames, scaled."""
    whole = ctc_saliency(recogniser, feats, torch.tensor([feats.size(1)]))[0].numpy()
    cells = np.array([
        [whole[t : t + 4, f : f + 4].mean() for f in range(0, whole.shape[1], 4)]
        for t in range(0, whole.shape[0], 4)
    ])  # fmt: skip
    return (cells - cells.min()) / (cells.max() - cells.min())


def test_maps_are_the_means_of_blocks_in_eight_bits(archive, first, glides):
    recogniser = CTCRecogniser.load(first)
    utterances = sorted(read_table(glides / "wav.scp"))
    assert list(read_table(archive / "maps.scp")) == utterances
    for utt_id in utterances[::16]:
        expected = by_hand(recogniser, features(recogniser, glides, [utt_id])[0])
        assert expected.shape == (31, 20)  # 121 frames, 80 bins
        (stored,) = read(archive, [utt_id])
        assert abs(stored.numpy() - expected).max() <= 0.5 / 255 + 1e-3
    about = json.loads((archive / "maps.json").read_text())
    assert about["digest"] == recogniser.digest and about["count"] == len(utterances)
    assert about["kind"] == "phonetic" and about["without_map"] == 0
    size = sum(path.stat().st_size for path in (archive / "parts").glob("*.ark"))
    assert size / len(utterances) < 1000  # bytes, of 1.2 s


def test_blocks_of_a_padded_batch_are_those_of_each_alone():
    maps = torch.rand(2, 10, 6, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([10, 5])
    together, cells = pooled(maps, lengths)
    assert together.shape == (2, 3, 2) and cells.tolist() == [3, 2]
    alone, _ = pooled(maps[1:, :5], lengths[1:])
    torch.testing.assert_close(together[1, :2], alone[0])
    assert not together[1, 2:].any()


def test_a_cell_lies_in_the_middle_of_its_block(archive):
    low = torch.tensor([0.0, 1.0])[None, :, None].expand(1, 2, 20)
    maps = PhoneticArchive.open(archive).maps(low, torch.tensor([2]), torch.tensor([8]), (8, 80))
    # The middles lie at frames 1.5 and 5.5.
    expected = [0.0, 0.0, 0.125, 0.375, 0.625, 0.875, 1.0, 1.0]
    assert maps[0, :, 40].tolist() == pytest.approx(expected)


def test_killed_and_started_again_only_the_rest_is_done(first, glides, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "CHUNK", 20)
    write_phonetic_maps(first, glides, tmp_path / "one")
    write_phonetic_maps(first, glides, tmp_path / "two", nj=2)
    parts = [tmp_path / name / "parts" for name in ("one", "two")]
    for n in range(3):
        one, two = (part / f"maps.{n}.ark" for part in parts)
        assert one.read_bytes() == two.read_bytes()
    for name in ("maps.json", "maps.scp", "parts/maps.1.scp"):
        (tmp_path / "one" / name).unlink()
    before = {n: (parts[0] / f"maps.{n}.ark").stat().st_mtime_ns for n in (0, 2)}
    write_phonetic_maps(first, glides, tmp_path / "one")
    assert {n: (parts[0] / f"maps.{n}.ark").stat().st_mtime_ns for n in (0, 2)} == before
    utterances = sorted(read_table(glides / "wav.scp"))
    for again, once in zip(read(tmp_path / "one", utterances), read(archive, utterances)):
        assert abs(again - once).max() <= 1.001 / 255  # frames of other batches round otherwise


def test_another_recogniser_starts_anew(first, glides, archive, tmp_path):
    shutil.copytree(first, tmp_path / "exp")
    write_phonetic_maps(tmp_path / "exp", glides, tmp_path / "maps")
    old = PhoneticArchive.open(tmp_path / "maps").digest
    assert old == PhoneticArchive.open(archive).digest
    write_recogniser(tmp_path / "exp", seed=2)
    write_phonetic_maps(tmp_path / "exp", glides, tmp_path / "maps")
    assert PhoneticArchive.open(tmp_path / "maps").digest != old
    utterances = sorted(read_table(glides / "wav.scp"))[:1]
    (here,), (there,) = read(tmp_path / "maps", utterances), read(archive, utterances)
    assert abs(here - there).max() > 0.1


def test_an_utterance_too_short_for_the_encoder_has_nothing_spared(first, tmp_path):
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).standard_normal(480) * 0.1, 16000)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path / 'a.flac'}\n")
    (tmp_path / "utt2num_samples").write_text("a 480\n")
    about = write_phonetic_maps(first, tmp_path, tmp_path / "maps")
    assert about["without_map"] == about["count"] == 1
    (stored,) = read(tmp_path / "maps", ["a"])
    assert stored.shape == (1, 20) and not stored.any()  # 4 frames


@pytest.mark.parametrize("accents", ["none", "online", "stored"])
def test_what_is_needed_is_never_masked(accents, archive, accent_archive, experiment, glides, first):
    recogniser = CTCRecogniser.load(first)
    utterances = sorted(read_table(glides / "wav.scp"))[:6]
    feats, lengths = features(recogniser, glides, utterances)
    needed = torch.zeros(6, 31, 20)
    needed[:, 15:] = 1.0  # frames 61.5 and later
    source = {
        "none": {"method": "random"},
        "online": {"classifier": str(experiment)},
        "stored": {"stored_maps": str(accent_archive)},
    }[accents]
    options = {**source, "apply_prob": 1.0, "mask_ratio": 0.2, "uniform_mix": 0.0,
               "patch_frames": 4, "patch_bins": 4, "min_unmasked_frames": 0}  # fmt: skip
    given = {
        **stream("saliency", read(accent_archive, utterances)),
        **stream("phonetic", needed),
    }
    shares = {}
    for protect in ("none", "recogniser"):
        if protect == "recogniser":
            options |= {"protect": protect, "protect_maps": str(archive)}
        specaug = SaliencySpecAug(**options)
        specaug.bind(recogniser.features)
        total = torch.zeros(feats.shape)
        for seed in range(10):
            torch.manual_seed(seed)
            specaug.receive(utterances, given)
            total += specaug.mask(feats, lengths)
        shares[protect] = total / 10
    assert shares["none"][:, 65:].mean() > 0.05
    assert shares["recogniser"][:, 65:].max() == 0
    assert shares["recogniser"][:, :58].mean() > 0.3  # a fifth of all, in less than half
    assert (shares["recogniser"][:, :58].amax(dim=(1, 2)) > 0).all()


def test_the_strength_is_that_of_protect_by_hand(archive):
    # Two halves in time, p = 0 and 0.5: with gamma 2 the second has a quarter of the first's weight.
    options = {"method": "random", "apply_prob": 1.0, "mask_ratio": 0.01, "uniform_mix": 0.0,
               "patch_frames": 8, "patch_bins": 8, "shift_grid": False, "min_unmasked_frames": 0,
               "protect": "recogniser", "protect_maps": str(archive), "protect_strength": 2.0}  # fmt: skip
    specaug = SaliencySpecAug(**options)
    needed = torch.zeros(256, 16, 20)
    needed[:, 8:] = 0.5
    feats, lengths = torch.randn(256, 64, 80), torch.full((256,), 64)
    torch.manual_seed(0)
    counts = torch.zeros(2)
    for _ in range(12):
        specaug.receive([str(n) for n in range(256)], stream("phonetic", needed))
        mask = specaug.mask(feats, lengths)
        counts += torch.stack([mask[:, :24].sum(), mask[:, 40:].sum()])  # clear of the slope between
    assert counts[1] / counts[0] == pytest.approx(0.25, abs=0.04)


def test_a_seed_gives_the_masks_of_the_maps_that_are_not_stored(
    archive, accent_archive, experiment, first, glides
):
    recogniser = CTCRecogniser.load(first)
    utterances = sorted(read_table(glides / "wav.scp"))[:12]
    feats, lengths = features(recogniser, glides, utterances)
    exact = [torch.from_numpy(by_hand(recogniser, feats[n : n + 1])).float() for n in range(12)]
    accent = stream("saliency", read(accent_archive, utterances))
    options = {"apply_prob": 0.7, "mask_ratio": 0.3, "protect": "recogniser", "protect_maps": str(archive)}
    online = SaliencySpecAug(classifier=str(experiment), **options)
    stored = SaliencySpecAug(stored_maps=str(accent_archive), **options)
    assert online.needed_streams == ("phonetic", "phonetic_lengths")
    assert stored.needed_streams == ("saliency", "saliency_lengths", "phonetic", "phonetic_lengths")
    different = total = 0
    for seed in range(20):
        masks = []
        for specaug, maps in ((online, exact), (stored, read(archive, utterances))):
            specaug.receive(utterances, {**accent, **stream("phonetic", maps)})
            torch.manual_seed(seed)
            masks.append(specaug.mask(feats, lengths))
        different += int((masks[0] != masks[1]).sum())
        total += int(masks[0].sum())
    assert total > 10_000 and different < 0.03 * total


def test_broken_streams_are_one_line_each(archive, accent_archive, tmp_path):
    feats, lengths = torch.randn(2, 121, 80), torch.tensor([121, 100])
    options = {"method": "random", "apply_prob": 1.0, "protect": "recogniser"}

    def fails(folder, streams, message):
        specaug = SaliencySpecAug(**options, protect_maps=str(folder))
        specaug.receive(["ann", "bob"], streams)
        with pytest.raises(UserError, match=message) as caught:
            specaug(feats, lengths)
        assert "\n" not in str(caught.value)

    whole = stream("phonetic", [torch.zeros(31, 20), torch.zeros(25, 20)])
    fails(archive, {}, "protect: recogniser needs the data stream phonetic, .* FILE,phonetic,kaldi_ark")
    fails(tmp_path, whole, "no stored maps there .*make them with stage 9")
    cut = stream("phonetic", [torch.zeros(31, 20), torch.zeros(31, 20)])
    fails(archive, cut, r"the map of bob has 31 cells in time, its 100 frames make 25: it is of other audio")
    other = stream("phonetic", [torch.zeros(31, 10), torch.zeros(25, 10)])
    fails(archive, other, r"stream phonetic: maps of shape \(31, 10\), and those of .* have 20 bands")
    fails(accent_archive, whole, "accent maps, where phonetic maps are asked for")
    mixed = SaliencySpecAug(stored_maps=str(archive), apply_prob=1.0)
    with pytest.raises(UserError, match="phonetic maps, where accent maps are asked for"):
        mixed.bind(PhoneticArchive.open(archive).features)


def test_options_that_do_not_fit():
    with pytest.raises(UserError, match="protect_maps: protect recogniser needs .* --first_recogniser EXP"):
        SaliencySpecAug("random", protect="recogniser")
    with pytest.raises(UserError, match="protect_maps: x has no say in protect change, only in recogniser"):
        SaliencySpecAug("random", protect="change", protect_maps="x")


def test_other_features_are_refused_when_the_recogniser_is_built(archive):
    plugin.register(["asr"])
    conf = {"method": "random", "protect": "recogniser", "protect_maps": str(archive)}
    changed = {**CONFIG, "specaug": "saliency", "specaug_conf": conf}
    assert ASRTask.build_model(argparse.Namespace(**changed)).specaug.spared is not None
    changed["frontend_conf"] = {**CONFIG["frontend_conf"], "hop_length": 256}
    with pytest.raises(UserError, match="hop_length: first recogniser 160, recogniser 256; give first"):
        ASRTask.build_model(argparse.Namespace(**changed))


def test_recognisers_that_give_no_maps(glides, tmp_path):
    decoder = {"decoder": "transformer", "decoder_conf": {"linear_units": 8, "num_blocks": 1}}
    without = write_recogniser(tmp_path / "attention", model_conf={"ctc_weight": 0.0}, **decoder)
    with pytest.raises(UserError, match="attention: has no CTC head"):
        write_phonetic_maps(without, glides, tmp_path / "maps")
    assert not (tmp_path / "maps").exists()
    broken = write_recogniser(tmp_path / "broken")
    weights = torch.load(broken / "valid.acc.ave.pth", weights_only=True)
    weights["encoder.after_norm.weight"][:] = float("nan")
    torch.save(weights, broken / "valid.acc.ave.pth")
    with pytest.raises(UserError, match="are NaN: the first recogniser is broken"):
        write_phonetic_maps(broken, glides, tmp_path / "maps")


def test_statistics_that_have_moved(tmp_path):
    stats = tmp_path / "feats_stats.npz"
    total = np.ones(80)
    np.savez(stats, count=np.array(2), sum=total, sum_square=3 * total)
    normalize = {"normalize": "global_mvn", "normalize_conf": {"stats_file": str(stats)}}
    folder = write_recogniser(tmp_path / "asr", **normalize)
    here = CTCRecogniser.load(folder)
    stats.rename(tmp_path / "moved.npz")
    with pytest.raises(UserError, match=f"config.yaml: names {stats}, which is not there"):
        CTCRecogniser.load(folder)
    assert CTCRecogniser.load(folder, tmp_path / "moved.npz").digest == here.digest


def test_a_map_is_of_the_features_as_a_recogniser_hears_them(first):
    """Through ESPnet's own model, frontend included."""
    config = yaml.safe_load((first / "config.yaml").read_text())
    model = ASRTask.build_model(argparse.Namespace(**config)).eval()
    model.load_state_dict(torch.load(first / "valid.acc.ave.pth", weights_only=True))
    speech, lengths = torch.randn(1, 16000), torch.tensor([16000])
    with torch.no_grad():
        encoded, frames = model.encode(speech, lengths)
        expected = model.ctc.log_softmax(encoded)
    recogniser = CTCRecogniser.load(first)
    feats, feats_lengths = recogniser.frontend(speech, lengths)
    before = feats.clone()
    posteriors, ours = recogniser.log_posteriors(feats, feats_lengths)
    torch.testing.assert_close(posteriors, expected)
    assert torch.equal(ours, frames) and torch.equal(feats, before)
    assert dataclasses.asdict(recogniser.features)["hop_length"] == 160
