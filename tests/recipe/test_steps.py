"""What is skipped, what is done again, and what is refused."""

from __future__ import annotations

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_dir
from espnet_saliency.recipe.steps import Stage, Step, check_order, run_stages

TITLES = {1: "one", 2: "two", 3: "three"}


class Chain:
    """Three stages that write a file each and note that they ran."""

    def __init__(self, folder, size=5, fail=None):
        self.ran: list[str] = []
        self.said: list[str] = []
        first = self.step(folder, 1, {"size": size}, (), fail)
        second = self.step(folder, 2, {}, (first,), fail)
        third = self.step(folder, 3, {"word": "x"}, (second,), fail)
        self.stages = [Stage(s.stage, TITLES[s.stage], (s,)) for s in (first, second, third)]

    def step(self, folder, number, inputs, needs, fail):
        place = folder / str(number)

        def run():
            self.ran.append(str(number))
            if fail == number:
                raise RuntimeError("killed")
            place.mkdir(parents=True, exist_ok=True)
            (place / "out").write_text("made")

        return Step(number, "s", place, run, inputs, needs, (place / "out",), owns_folder=True)

    def run(self, first=1, last=3):
        chosen = self.stages[first - 1 : last]
        check_order(chosen, TITLES)
        run_stages(chosen, self.said.append)
        return self


def test_a_finished_stage_is_skipped_and_says_so(tmp_path):
    assert Chain(tmp_path).run().ran == ["1", "2", "3"]
    again = Chain(tmp_path).run()
    assert again.ran == []
    assert sum("skipped" in line for line in again.said) == 3


def test_a_changed_option_redoes_the_stage_and_all_that_depend_on_it(tmp_path):
    Chain(tmp_path).run()
    changed = Chain(tmp_path, size=6).run()
    assert changed.ran == ["1", "2", "3"]
    assert "  s: done again: size 5, now 6" in changed.said
    assert "  s: done again: stage 1 (s) has changed" in changed.said


def test_what_a_changed_experiment_held_is_kept_as_previous(tmp_path):
    Chain(tmp_path).run()
    (tmp_path / "1" / "model.pth").write_text("days of work")
    Chain(tmp_path, size=6).run()
    assert (tmp_path / "1.previous" / "model.pth").read_text() == "days of work"
    assert not (tmp_path / "1" / "model.pth").exists()


def test_an_interrupted_step_goes_on_in_its_folder(tmp_path):
    with pytest.raises(RuntimeError):
        Chain(tmp_path, fail=2).run()
    (tmp_path / "2" / "checkpoint.pth").write_text("epoch 3")
    again = Chain(tmp_path).run()
    assert again.ran == ["2", "3"]
    assert (tmp_path / "2" / "checkpoint.pth").exists()


def test_a_deleted_output_is_made_again(tmp_path):
    Chain(tmp_path).run()
    (tmp_path / "3" / "out").unlink()
    assert Chain(tmp_path).run().ran == ["3"]


def test_a_stage_out_of_order_is_refused_and_names_the_stage_to_start_from(tmp_path):
    chain = Chain(tmp_path)
    with pytest.raises(UserError, match=r"stage 3 needs stage 1 \(one, s\), which has not been run: .*--stage 1"):
        chain.run(first=3)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError):
        Chain(tmp_path, fail=2).run()
    with pytest.raises(UserError, match=r"stage 3 needs stage 2 \(two, s\), which has not been run: .*--stage 2"):
        chain.run(first=3)


def test_a_stage_after_one_that_ran_with_other_options_is_refused(tmp_path):
    Chain(tmp_path).run()
    with pytest.raises(UserError, match="stage 2 needs stage 1 .* other inputs .size 5, now 6.: start with --stage 1"):
        Chain(tmp_path, size=6).run(first=2)
    # The stage to begin with, not the last of those that have to be done again.
    with pytest.raises(UserError, match="stage 3 needs stage 1 .* other inputs .size 5, now 6.: start with --stage 1"):
        Chain(tmp_path, size=6).run(first=3)


def test_a_folder_that_somebody_else_made_is_not_replaced(tmp_path):
    folder = tmp_path / "data" / "train"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("years of work")

    def write():
        with atomic_dir(folder) as new:
            (new / "wav.scp").write_text("")

    def run(inputs):
        step = Step(1, "corpus", tmp_path / "data", write, inputs, (), (folder / "wav.scp",), replaces=(folder,))
        run_stages([Stage(1, "one", (step,))], print)

    with pytest.raises(UserError, match="data/train: is there already, and not made by this recipe"):
        run({})
    assert [path.name for path in (tmp_path / "data").rglob("*")] == ["train", "notes.txt"]
    (folder / "notes.txt").unlink()
    run({})
    # Its own it does replace, also where a run with other options was killed on the way.
    run({"seed": 2})
    (tmp_path / "data" / ".stages" / "1-corpus.done.json").unlink()
    run({"seed": 3})
    assert (folder / "wav.scp").exists()


def test_a_step_that_writes_nothing_is_not_called_done(tmp_path):
    step = Step(1, "s", tmp_path, lambda: None, {}, (), (tmp_path / "out",))
    with pytest.raises(RuntimeError, match="without writing"):
        run_stages([Stage(1, "one", (step,))], print)
    assert not step.finished()
