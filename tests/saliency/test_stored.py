"""Stored maps: the same as online but for 8 bits, whole after a kill, refused where they do not fit."""

from __future__ import annotations

import dataclasses
import json
import shutil

import kaldiio
import pytest
import soundfile
import torch
from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.errors import UserError
from espnet_saliency.saliency import archive as archives
from espnet_saliency.saliency.cam import METHODS, class_activation, saliency_map, scale01
from espnet_saliency.saliency.heldout import log_mel, read_audio
from espnet_saliency.saliency.masking import MaskPolicy, draw, place
from espnet_saliency.saliency.specaug import SaliencySpecAug
from espnet_saliency.saliency.map_settings import MapSettings
from espnet_saliency.saliency.stored import MapArchive, write_maps
from torch.nn.utils.rnn import pad_sequence


@pytest.fixture(scope="module")
def data(glides, tmp_path_factory):
    """The glides with utterances of two accents that the untrained classifier knows by name."""
    folder = tmp_path_factory.mktemp("stored") / "train"
    shutil.copytree(glides, folder)
    return folder


@pytest.fixture(scope="module")
def archive(experiment, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    write_maps(experiment, data, folder)
    return folder


def features(classifier, data, utterances):
    wav = read_table(data / "wav.scp")
    return log_mel(classifier, [read_audio(wav[u], classifier.features.fs) for u in utterances])


def stream(folder, utterances) -> dict[str, torch.Tensor]:
    """What ESPnet hands over for a batch."""
    matrices = kaldiio.load_scp(str(folder / "maps.scp"))
    maps = [torch.from_numpy(matrices[u].copy()) for u in utterances]
    lengths = torch.tensor([len(m) for m in maps])
    return {"saliency": pad_sequence(maps, batch_first=True), "saliency_lengths": lengths}


def test_maps_are_those_of_the_classifier_in_eight_bits(archive, experiment, data):
    classifier = AccentClassifier.load(experiment)
    utterances = list(read_table(data / "wav.scp"))
    assert list(read_table(archive / "maps.scp")) == sorted(utterances)
    matrices = kaldiio.load_scp(str(archive / "maps.scp"))
    for utt_id in utterances[::9]:
        feats, lengths = features(classifier, data, [utt_id])
        cam = class_activation(classifier, feats, lengths)
        expected = scale01(cam.map, cam.lengths)[0]
        assert matrices[utt_id].shape == expected.shape
        assert abs(matrices[utt_id] - expected.numpy()).max() <= 0.5 / 255 + 1e-4
        assert matrices[utt_id].max() == 1.0
    about = json.loads((archive / "maps.json").read_text())
    assert about["count"] == len(utterances) and about["without_map"] == 0
    assert about["digest"] == classifier.digest and about["stride"] == list(classifier.stride)
    size = sum(path.stat().st_size for path in (archive / "parts").glob("*.ark"))
    assert size / len(utterances) < 1000  # bytes, of 1.2 s


def test_a_seed_gives_the_masks_that_it_gives_online(archive, experiment, data):
    classifier = AccentClassifier.load(experiment)
    utterances = sorted(read_table(data / "wav.scp"))[:12]
    feats, lengths = features(classifier, data, utterances)
    options = {"apply_prob": 0.7, "mask_ratio": 0.3}
    online = SaliencySpecAug(classifier=str(experiment), **options)
    from_store = SaliencySpecAug(stored_maps=str(archive), **options)
    from_store.bind(classifier.features)
    assert from_store.classifier is None
    assert from_store.needed_streams == ("saliency", "saliency_lengths")
    different = total = 0
    for seed in range(20):
        masks = []
        for specaug in (online, from_store):
            specaug.receive(utterances, stream(archive, utterances))
            torch.manual_seed(seed)
            masks.append(specaug.mask(feats, lengths))
        different += int((masks[0] != masks[1]).sum())
        total += int(masks[0].sum())
    assert total > 10_000 and different < 0.02 * total


def test_masks_are_the_very_same_for_maps_of_whole_steps(archive, tmp_path):
    torch.manual_seed(0)
    low = torch.randint(0, 256, (3, 15, 20)) / 255
    with open(tmp_path / "maps.ark", "wb") as handle:
        kaldiio.save_ark(handle, {str(n): m.numpy() for n, m in enumerate(low)}, compression_method=7)
    read = torch.stack([torch.from_numpy(m.copy()) for _, m in kaldiio.load_ark(str(tmp_path / "maps.ark"))])
    assert torch.equal(read, low)
    opened = MapArchive.open(archive)
    lengths = torch.tensor([60, 57, 58])
    policy = MaskPolicy(apply_prob=1.0)
    draws = draw(3, (60, 80), policy, torch.Generator().manual_seed(1))
    masks = [
        place(draws, opened.maps(m, torch.tensor([15, 15, 15]), lengths, (60, 80)), lengths, (60, 80), policy)
        for m in (low, read)
    ]
    assert masks[0].any() and torch.equal(*masks)


def test_killed_and_started_again_only_the_rest_is_done(experiment, data, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "CHUNK", 20)
    write_maps(experiment, data, tmp_path)
    whole = (tmp_path / "maps.scp").read_text()
    parts = tmp_path / "parts"
    assert sorted(p.name for p in parts.glob("*.ark")) == ["maps.0.ark", "maps.1.ark", "maps.2.ark"]
    for path in (tmp_path / "maps.json", tmp_path / "maps.scp", parts / "maps.1.scp"):
        path.unlink()
    (parts / "maps.1.ark").write_bytes((parts / "maps.1.ark").read_bytes()[:100])  # cut off
    before = {n: (parts / f"maps.{n}.ark").stat().st_mtime_ns for n in (0, 2)}
    write_maps(experiment, data, tmp_path)
    assert {n: (parts / f"maps.{n}.ark").stat().st_mtime_ns for n in (0, 2)} == before
    assert (tmp_path / "maps.scp").read_text() == whole
    again = kaldiio.load_scp(str(tmp_path / "maps.scp"))
    for utt_id, matrix in kaldiio.load_scp(str(archive / "maps.scp")).items():
        assert abs(again[utt_id] - matrix).max() <= 1.001 / 255  # batched otherwise


def test_other_settings_start_anew_and_two_processes_write_the_same(experiment, data, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "CHUNK", 20)
    write_maps(experiment, data, tmp_path / "one", nj=1)
    write_maps(experiment, data, tmp_path / "two", nj=2)
    for n in range(3):
        name = f"parts/maps.{n}.ark"
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    before = (tmp_path / "one/parts/maps.0.ark").read_bytes()
    write_maps(experiment, data, tmp_path / "one", MapSettings(method="layer_cam"))
    assert (tmp_path / "one/parts/maps.0.ark").read_bytes() != before
    assert MapArchive.open(tmp_path / "one").method == "layer_cam"


def test_changed_audio_starts_anew(experiment, data, tmp_path):
    write_maps(experiment, data, tmp_path / "maps")
    mine = tmp_path / "train"
    shutil.copytree(data, mine)
    samples = (mine / "utt2num_samples").read_text().splitlines(keepends=True)
    utt_id, _ = samples[0].split()
    wave, rate = soundfile.read(read_table(data / "wav.scp")[utt_id])
    soundfile.write(tmp_path / "cut.flac", wave[: len(wave) // 2], rate)
    (mine / "utt2num_samples").write_text(f"{utt_id} {len(wave) // 2}\n" + "".join(samples[1:]))
    wav = (mine / "wav.scp").read_text().splitlines(keepends=True)
    (mine / "wav.scp").write_text(f"{utt_id} {tmp_path / 'cut.flac'}\n" + "".join(wav[1:]))
    before = kaldiio.load_scp(str(tmp_path / "maps" / "maps.scp"))[utt_id].shape
    write_maps(experiment, mine, tmp_path / "maps")
    assert kaldiio.load_scp(str(tmp_path / "maps" / "maps.scp"))[utt_id].shape[0] < before[0]


def test_other_accents_start_anew(experiment, data, tmp_path):
    mine = tmp_path / "train"
    shutil.copytree(data, mine)
    settings = MapSettings(target="true")
    write_maps(experiment, mine, tmp_path / "maps", settings)
    table = (mine / "utt2accent").read_text()
    (mine / "utt2accent").write_text(table.replace("falling0-0 falling", "falling0-0 rising"))
    before = kaldiio.load_scp(str(tmp_path / "maps" / "maps.scp"))["falling0-0"]
    write_maps(experiment, mine, tmp_path / "maps", settings)
    assert abs(kaldiio.load_scp(str(tmp_path / "maps" / "maps.scp"))["falling0-0"] - before).max() > 0.1


def test_the_stride_of_an_inner_layer_is_not_read_off_a_short_utterance(experiment, data, tmp_path):
    write_maps(experiment, data, tmp_path, MapSettings(layer="encoder.stages.0.0"))
    assert MapArchive.open(tmp_path).stride == (2, 2)


def test_unknown_accents_and_doubt_get_maps_of_zeros(experiment, data, tmp_path):
    about = write_maps(experiment, data, tmp_path / "true", MapSettings(target="true"))
    assert about["without_map"] == 1  # the glides have one utterance of an accent that is not known
    unsure = write_maps(experiment, data, tmp_path / "sure", MapSettings(min_confidence=1.0))
    assert unsure["without_map"] == unsure["count"]
    matrices = kaldiio.load_scp(str(tmp_path / "sure" / "maps.scp"))
    assert all(matrix.max() == 0 for matrix in matrices.values())


def test_what_a_configuration_asks_to_store():
    conf = {"method": "rolled", "map_method": "layer_cam", "layer": ["a", "b"], "target": "true"}
    assert MapSettings.from_conf(conf, METHODS) == MapSettings("layer_cam", ("a", "b"), "true")
    assert MapSettings.from_conf({}, METHODS) == MapSettings()
    assert not MapSettings.from_conf({"target": "sample"}, METHODS).storable


def test_what_does_not_fit_is_refused(archive, experiment, data, tmp_path):
    opened = MapArchive.open(archive)
    with pytest.raises(UserError, match="hop_length: classifier 160, recogniser 256"):
        opened.bind(dataclasses.replace(opened.features, hop_length=256))
    opened.check(opened.digest)
    with pytest.raises(UserError, match="maps of another classifier"):
        opened.check("0" * 64)
    with pytest.raises(UserError, match="no stored maps there"):
        MapArchive.open(tmp_path)
    (tmp_path / "maps.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="format 99, this version reads 1"):
        MapArchive.open(tmp_path)
    with pytest.raises(UserError, match=r"map of bob has 5 cells in time, its 121 frames make 31"):
        opened.maps(torch.zeros(1, 5, 20), torch.tensor([5]), torch.tensor([121]), (121, 80), ["bob"])
    with pytest.raises(UserError, match=r"maps of shape \(31, 7\), and those of .* have 20 bands"):
        opened.maps(torch.zeros(1, 31, 7), torch.tensor([31]), torch.tensor([121]), (121, 80))
    for values in (torch.tensor([[0.0, 1.5]]), torch.tensor([[-0.1, 0.5]]), torch.tensor([[0.0, torch.nan]])):
        with pytest.raises(UserError, match=r"stream saliency: values from .* and maps lie within \[0, 1\]"):
            opened.maps(values.repeat(1, 31, 10), torch.tensor([31]), torch.tensor([121]), (121, 80))
    for damaged in ('{"format": 1', '[1]', '{"format": 1, "digest": "x"}'):
        (tmp_path / "maps.json").write_text(damaged)
        with pytest.raises(UserError, match=r"maps.json: damaged \(.*make the maps anew with stage 9"):
            MapArchive.open(tmp_path)
    with pytest.raises(UserError, match="target sample is drawn anew"):
        write_maps(experiment, data, tmp_path, MapSettings(target="sample"))
    with pytest.raises(UserError, match="reference_accent: 'martian' is not one of falling, rising"):
        write_maps(experiment, data, tmp_path, MapSettings(target="contrast", reference_accent="martian"))
    specaug = SaliencySpecAug(method="layer_cam", stored_maps=str(archive))
    with pytest.raises(UserError, match="was made with method grad_cam, and the configuration says layer_cam"):
        specaug.bind(opened.features)


def test_a_contrast_with_another_reference_is_refused(experiment, data, tmp_path):
    write_maps(experiment, data, tmp_path, MapSettings(target="contrast", reference_accent="rising"))
    options = {"target": "contrast", "stored_maps": str(tmp_path)}
    features = MapArchive.open(tmp_path).features
    SaliencySpecAug(reference_accent="rising", **options).bind(features)
    with pytest.raises(UserError, match="made with reference_accent rising, and .* says falling"):
        SaliencySpecAug(reference_accent="falling", **options).bind(features)


def test_maps_of_another_classifier_than_the_one_that_changes_accents_are_refused(
    archive, experiment, make_experiment, tmp_path
):
    features = MapArchive.open(archive).features
    same = SaliencySpecAug(stored_maps=str(archive), classifier=str(experiment), fill="accent_mix")
    same.bind(features)
    other = make_experiment(tmp_path / "other", encoder_conf={"channels": [4, 8], "stem_stride": [2, 2]})
    with pytest.raises(UserError, match="maps of another classifier"):
        SaliencySpecAug(stored_maps=str(archive), classifier=str(other), fill="accent_mix").bind(features)


def test_the_whole_map_is_that_of_the_classifier(archive, experiment, data):
    classifier = AccentClassifier.load(experiment)
    utterances = sorted(read_table(data / "wav.scp"))[:5]
    feats, lengths = features(classifier, data, utterances)
    expected, _ = saliency_map(classifier, feats, lengths)
    given = stream(archive, utterances)
    maps = MapArchive.open(archive).maps(
        given["saliency"], given["saliency_lengths"], lengths, tuple(feats.shape[1:])
    )
    torch.testing.assert_close(maps, expected, atol=1 / 255, rtol=0)
