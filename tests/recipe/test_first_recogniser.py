"""Protection by a first recogniser in the recipe: refused, wired, its maps stored and read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.errors import UserError
from espnet_saliency.recipe.arms import load_arms
from espnet_saliency.recipe.cli import main
from espnet_saliency.recipe.layout import Layout
from espnet_saliency.recipe.maps import map_needs, map_steps, phonetic_steps, prepare_streams, stream_arguments
from espnet_saliency.recipe.options import ROOT, load_options
from espnet_saliency.recipe.recipe import Recipe
from espnet_saliency.recipe.stages import define_stages
from espnet_saliency.recipe.steps import Step
from espnet_saliency.saliency.stored_phonetic import PhoneticArchive

SMALL = ROOT / "conf" / "small" / "train_asr_conformer.yaml"
ARMS = ["--arms", "saliency_protected random_protected", "--asr_config", str(SMALL)]


@pytest.fixture
def first(tmp_path) -> Path:
    """An experiment folder with the configuration of conf/small and weights of no content."""
    return write_experiment(tmp_path / "asr_first")


def write_experiment(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {**yaml.safe_load(SMALL.read_text()), "ctc_conf": {}, "decoder_conf": {}, "token_list": ["<blank>"]}
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, **changes}))
    (folder / "valid.acc.ave.pth").write_bytes(b"weights")
    return folder


def recipe_of(*options: str) -> Recipe:
    given = load_options(["--corpus", "mini_accent", *ARMS, *options])
    layout = Layout(given.recipe)
    return Recipe(given, layout, load_arms(layout, given.folder))


def test_arms_read_the_maps_of_the_first_recogniser(first):
    recipe = recipe_of("--first_recogniser", str(first))
    saliency, random = recipe.arms
    folder = recipe.layout.phonetic_maps
    assert folder.name == "phonetic_asr_first_train" and folder.parent.name == "exp"
    for arm in (saliency, random):
        assert arm.phonetic_maps == folder
        assert f"{folder / 'maps.scp'},phonetic,kaldi_ark" in stream_arguments(recipe, arm)
    accent = recipe.layout.maps(saliency.maps) / "maps.scp"
    assert f"{accent},saliency,kaldi_ark" in stream_arguments(recipe, saliency)
    assert random.maps is None and not random.needs_classifier
    online, _ = recipe_of("--first_recogniser", str(first), "--stored_maps", "false").arms
    assert online.needs_classifier and online.phonetic_maps == folder


def test_a_weights_file_may_be_named(first):
    other = first / "7epoch.pth"
    other.write_bytes(b"others")
    recipe = recipe_of("--first_recogniser", str(other))
    assert recipe.layout.phonetic_maps.name == "phonetic_asr_first_train"


def test_one_step_of_stage_9_makes_them_for_all_arms(first):
    options = ["--corpus", "mini_accent", *ARMS, "--first_recogniser", str(first)]
    steps = [step for step in define_stages(load_options(options))[9].steps if "phonetic" in step.name]
    assert [step.name for step in steps] == ["phonetic_asr_first_train"]
    assert set(steps[0].inputs["recogniser"]) == {"config.yaml", "valid.acc.ave.pth"}
    before = steps[0].fingerprint
    (first / "valid.acc.ave.pth").write_bytes(b"another training")
    (again,) = [step for step in define_stages(load_options(options))[9].steps if "phonetic" in step.name]
    assert again.fingerprint != before


def test_trainings_need_both_kinds_of_maps(first):
    recipe = recipe_of("--first_recogniser", str(first))
    for number, name in ((4, "train"), (7, "classifier")):
        recipe.add(Step(stage=number, name=name, folder=first, run=lambda: None, inputs={}))
    map_steps(recipe, "cpu", 1), phonetic_steps(recipe, "cpu", 1)
    needs = [[step.name for step in map_needs(recipe, arm)] for arm in recipe.arms]
    assert needs == [["maps_grad_cam_predicted", "phonetic_asr_first_train"], ["phonetic_asr_first_train"]]


def test_another_recogniser_trains_anew(first):
    options = ["--corpus", "mini_accent", *ARMS, "--first_recogniser", str(first)]

    def trainings():
        return [step.fingerprint for step in define_stages(load_options(options))[11].steps]

    before = trainings()
    assert before == trainings()
    (first / "valid.acc.ave.pth").write_bytes(b"another training")
    assert not set(before) & set(trainings())


def test_other_arms_store_nothing(first, capsys):
    words = ["--dry_run", "--arms", "specaug saliency", "--first_recogniser", str(first)]
    assert main([*words, "--stage", "9", "--stop_stage", "11"]) == 0
    assert "phonetic" not in capsys.readouterr().out


def test_a_dry_run_shows_them(first, capsys):
    words = ["--dry_run", *ARMS, "--first_recogniser", str(first), "--stage", "9", "--stop_stage", "11"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "  phonetic_asr_first_train: " in out
    assert out.count("phonetic_asr_first_train/maps.scp,phonetic,kaldi_ark") == 2


def test_without_one_the_arms_are_refused(capsys):
    assert main(["--dry_run", *ARMS]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "saliency_protected.yaml: protect: recogniser spares what a trained recogniser needs" in error
    assert "--first_recogniser EXP, or use protect: change" in error


def test_the_pretrained_model_stands_in_for_it(first, tmp_path):
    stats = tmp_path / "feats_stats.npz"
    stats.write_bytes(b"statistics")
    write_experiment(
        first, token_type="char", normalize="global_mvn", normalize_conf={"stats_file": str(stats)}
    )
    options = ["--corpus", "mini_accent", *ARMS, "--pretrained_model", str(first)]
    stage = define_stages(load_options(options))[9]
    (step,) = [step for step in stage.steps if "phonetic" in step.name]
    assert step.folder.name == "phonetic_asr_first_train"
    assert "feats_stats.npz" in step.inputs["recogniser"]
    # One that is given has the say.
    other = write_experiment(tmp_path / "asr_other")
    stage = define_stages(load_options([*options, "--first_recogniser", str(other)]))[9]
    assert "phonetic_asr_other_train" in [step.name for step in stage.steps]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_conf": {"ctc_weight": 0.0}}, r"config.yaml: no CTC head \(ctc_weight 0\)"),
        ({"frontend": "s3prl"}, "frontend s3prl gives no log-mel features"),
        ({"frontend_conf": {"hop_length": 160}}, "hop_length: first recogniser 160, recogniser 256"),
    ],
)
def test_a_recogniser_that_cannot_give_maps_is_refused_at_the_start(first, changes, message):
    write_experiment(first, **changes)
    with pytest.raises(UserError, match=message):
        recipe_of("--first_recogniser", str(first))


def test_what_is_no_recogniser(first, tmp_path):
    with pytest.raises(UserError, match="--first_recogniser .*gone: no trained recogniser there"):
        recipe_of("--first_recogniser", str(tmp_path / "gone"))
    # Data can be prepared before it is trained.
    recipe_of("--first_recogniser", str(tmp_path / "gone"), "--stop_stage", "5")
    given = load_options([*ARMS, "--first_recogniser", str(tmp_path / "gone"), "--stop_stage", "5"])
    assert define_stages(given)
    (first / "config.yaml").write_text("token_list: [a]\nencoder: accent_resnet\n")
    with pytest.raises(UserError, match="config.yaml: not of a recogniser .*no ctc_conf"):
        recipe_of("--first_recogniser", str(first))


def test_a_training_that_changes_its_audio_is_refused(first, tmp_path):
    path = tmp_path / "noisy.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(SMALL.read_text()), "noise_scp": "noise.scp"}))
    words = ["--arms", "random_protected", "--asr_config", str(path), "--first_recogniser", str(first)]
    given = load_options(words)
    with pytest.raises(UserError, match="noisy.yaml changes the audio .* use protect: change"):
        load_arms(Layout(given.recipe), given.folder)


def test_a_sweep_over_protections(first):
    words = ["--sweep", "aug.protect=none,change,recogniser", "--first_recogniser", str(first)]
    given = load_options(["--arms", "random", "--asr_config", str(SMALL), *words])
    arms = load_arms(Layout(given.recipe), given.folder)
    assert [bool(arm.phonetic_maps) for arm in arms] == [False, False, True]


def test_utterances_without_a_phonetic_map_stop_the_training(first, tmp_path):
    dirs = [word for name in ("dump", "exp") for word in (f"--{name}dir", str(tmp_path / name))]
    recipe = recipe_of("--first_recogniser", str(first), *dirs)
    _, arm = recipe.arms
    table = tmp_path / "dump" / "raw" / "train" / "wav.scp"
    table.parent.mkdir(parents=True)
    table.write_text("a a.flac\nb b.flac\n")
    with pytest.raises(UserError, match="maps.scp: no such file: make the maps with --stage 9"):
        prepare_streams(recipe, arm)
    maps = recipe.layout.phonetic_maps / "maps.scp"
    maps.parent.mkdir(parents=True)
    maps.write_text("a x.ark:3\n")
    with pytest.raises(UserError, match=r"1 utterances of train have no map \(b\): make the maps anew"):
        prepare_streams(recipe, arm)
    maps.write_text("a x.ark:3\nb x.ark:9\n")
    prepare_streams(recipe, arm)


@pytest.mark.slow
def test_a_training_spares_the_words_of_an_earlier_one(tiny, tmp_path):
    first = tiny.folder / "exp" / "asr_train_asr_tiny_specaug_raw_en_bpe40"
    recipe = tiny.with_options("--expdir", str(tmp_path), "--first_recogniser", str(first))
    # The control, which needs no classifier; its stages still want one where there are accents.
    (classifier,) = tiny.folder.glob("exp/accent_*_raw")
    output = recipe.run("--arms", "random_protected", "--classifier", str(classifier), "--stop_stage", "11")
    folder = tmp_path / f"phonetic_{first.name}_train"
    assert f"each: {folder}" in output
    train = tiny.folder / "dump" / "raw" / "train"
    assert list(read_table(folder / "maps.scp")) == list(read_table(train / "wav.scp"))
    assert PhoneticArchive.open(folder).stride == (4, 4)
    (experiment,) = tmp_path.glob("asr_train*")
    config = yaml.safe_load((experiment / "config.yaml").read_text())
    assert [str(folder / "maps.scp"), "phonetic", "kaldi_ark"] in config["train_data_path_and_name_and_type"]
    assert config["specaug_conf"]["protect_maps"] == str(folder)
    assert (experiment / "valid.loss.ave.pth").exists()
