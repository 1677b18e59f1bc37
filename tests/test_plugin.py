"""Registration with ESPnet's tasks: once, in all of them, and features told to the augmentation."""

from __future__ import annotations

import argparse
import importlib

import pytest
from espnet_saliency import plugin
from espnet_saliency.accent.augment import CropSpecAug
from espnet_saliency.accent.normalize import MaskedUtteranceMVN
from espnet_saliency.accent.resnet import AccentResNet
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.specaug import SaliencySpecAug


@pytest.fixture(autouse=True)
def registered():
    plugin.register()


def task_class(name):
    return getattr(importlib.import_module(f"espnet2.tasks.{name}"), plugin.RECOGNISERS[name])


@pytest.mark.parametrize("name", plugin.RECOGNISERS)
def test_recognisers_accept_saliency_by_name_on_the_command_line(name):
    parser = task_class(name).get_parser()
    args = parser.parse_args(["--specaug", "saliency", "--output_dir", "x", "--token_list", "x"])
    module = importlib.import_module(f"espnet2.tasks.{name}")
    assert module.specaug_choices.get_class(args.specaug) is SaliencySpecAug
    assert "specaug" in module.specaug_choices.classes


def test_cls_accepts_the_classifiers_parts():
    from espnet2.tasks import cls

    assert cls.encoder_choices.get_class("accent_resnet") is AccentResNet
    assert cls.specaug_choices.get_class("crop_specaug") is CropSpecAug
    assert cls.normalize_choices.get_class("masked_utterance_mvn") is MaskedUtteranceMVN


def test_registering_again_changes_nothing():
    builders = [task_class(name).build_model.__func__ for name in plugin.RECOGNISERS]
    from espnet2.tasks.asr import specaug_choices

    classes = dict(specaug_choices.classes)
    plugin.register()
    plugin.register(["asr"])
    assert [task_class(name).build_model.__func__ for name in plugin.RECOGNISERS] == builders
    assert specaug_choices.classes == classes


def build(specaug, specaug_conf, streams=(), **frontend):
    from espnet2.tasks.asr import ASRTask

    args = ASRTask.get_default_config()
    args.update(
        token_list=["<blank>", "<unk>", "a", "<sos/eos>"],
        frontend_conf={"fs": 16000, **frontend},
        specaug=specaug,
        specaug_conf=specaug_conf,
        normalize="utterance_mvn",
        normalize_conf={},
        encoder="transformer",
        encoder_conf={"output_size": 8, "num_blocks": 1, "attention_heads": 1, "linear_units": 8},
        model_conf={"ctc_weight": 1.0},
        train_data_path_and_name_and_type=streams,
    )
    return ASRTask.build_model(argparse.Namespace(**args))


@pytest.fixture
def classifier(tmp_path):
    """Experiment of an untrained classifier of 40 mel bins."""
    import torch
    import yaml
    from espnet2.tasks.cls import CLSTask

    config = {
        "token_list": ["x", "y", "<unk>"], "input_size": None, "frontend": "default",
        "frontend_conf": {"fs": 16000, "n_mels": 40}, "specaug": None, "specaug_conf": {},
        "normalize": "masked_utterance_mvn", "normalize_conf": {}, "preencoder": None,
        "preencoder_conf": {}, "encoder": "accent_resnet", "encoder_conf": {"channels": [4]},
        "decoder": "linear", "decoder_conf": {}, "model": "espnet", "model_conf": {}, "init": None,
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    model = CLSTask.build_model(argparse.Namespace(**config))
    torch.save(model.state_dict(), tmp_path / "valid.acc.best.pth")
    return str(tmp_path)


def test_a_built_recogniser_has_told_its_features(classifier):
    model = build("saliency", {"classifier": classifier}, n_mels=40)
    assert isinstance(model.specaug, SaliencySpecAug)
    assert not [name for name, _ in model.named_parameters() if "specaug" in name]
    with pytest.raises(UserError, match="n_mels: classifier 40, recogniser 80"):
        build("saliency", {"classifier": classifier}, n_mels=80)


def test_a_recogniser_can_be_built_where_the_classifier_is_not():
    model = build("saliency", {"classifier": "gone/accent"})
    assert isinstance(model.specaug, SaliencySpecAug)


def test_maps_of_another_folder_than_the_stream_are_refused(tmp_path):
    maps = {"stored_maps": str(tmp_path / "a"), "protect": "recogniser", "protect_maps": str(tmp_path / "b")}
    streams = [("wav.scp", "speech", "sound"), (f"{tmp_path}/c/../a/maps.scp", "saliency", "kaldi_ark")]
    build("saliency", maps, streams)
    for path, name, folder in (("c/maps.scp", "saliency", "a"), ("a/maps.scp", "phonetic", "b")):
        with pytest.raises(UserError, match=f"{path},{name},.* those of .*/{folder}: give .*/{folder}/maps.scp"):
            build("saliency", maps, [(str(tmp_path / path), name, "kaldi_ark")])


def test_random_masks_need_no_features_and_other_augmentation_is_left_alone():
    assert build("saliency", {"method": "random"}, fs="16k").specaug.method == "random"
    stock = {"apply_time_mask": False}
    assert type(build("specaug", stock).specaug).__name__ == "SpecAug"
    assert build(None, {}).specaug is None


def test_streams_go_to_the_augmentation_and_not_to_the_model():
    import torch

    model = build("saliency", {"method": "random"})
    heard = []
    model.specaug.receive = lambda ids, streams: heard.append((ids, sorted(streams)))
    speech, text = torch.randn(2, 8000), torch.tensor([[2], [2]])
    batch = {
        "speech": speech, "speech_lengths": torch.tensor([8000, 6000]),
        "text": text, "text_lengths": torch.tensor([1, 1]), "utt_id": ["a", "b"],
        "saliency": torch.zeros(2, 3, 4), "saliency_lengths": torch.tensor([3, 2]),
        "phonetic": torch.zeros(2, 3, 4), "phonetic_lengths": torch.tensor([3, 2]),
    }  # fmt: skip
    model.train()
    model(**batch)
    names = ["phonetic", "phonetic_lengths", "saliency", "saliency_lengths"]
    assert heard == [(["a", "b"], names)]
    model.eval()
    model(**batch)  # in validation nothing is masked, and so nothing is handed over
    assert len(heard) == 1
    model.train()
    batch["utt_id"] = ["a", "b", "c"]  # torch's DataParallel gives each replica all the ids
    model(**batch)
    assert len(heard) == 1


def test_streams_under_data_parallel_are_refused():
    import torch

    model = build("saliency", {"stored_maps": "gone/maps"}).train()
    batch = {"speech": torch.randn(1, 8000), "utt_id": ["a", "b"]}
    with pytest.raises(UserError, match="2 utterance ids .* a batch of 1; .*multiprocessing_distr"):
        model(**batch)


def test_a_resumed_training_goes_on_with_its_warm_up(tmp_path):
    import torch
    from espnet2.train.reporter import Reporter
    from espnet2.train.trainer import Trainer

    model = build("saliency", {"method": "random", "warmup_batches": 100})
    reporter = Reporter()
    reporter.set_epoch(1)
    with reporter.observe("train") as train:
        for _ in range(7):
            train.register({"loss": torch.tensor(1.0)})
            train.next()
    torch.save(
        {"model": model.state_dict(), "reporter": reporter.state_dict(), "optimizers": [],
         "schedulers": [], "scaler": None},
        tmp_path / "checkpoint.pth",
    )  # fmt: skip
    assert model.specaug.batches == 0
    Trainer.resume(tmp_path / "checkpoint.pth", model, Reporter(), [], [], None)
    assert model.specaug.batches == 7
