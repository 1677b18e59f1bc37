"""Stage 2: copies of the training set at other speeds."""

from __future__ import annotations

import heapq
import shutil
from pathlib import Path
from typing import Callable, Iterator, Sequence

from espnet_saliency.datadir.kaldi import iter_table, utterance_tables, write_spk2utt
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_dir


def perturb_speed(source: Path, target: Path, factors: Sequence[float]) -> int:
    """Write `target`: the utterances of `source` at each speed; return how many they are.

    As in Kaldi's perturb_data_dir_speed.sh, an utterance at speed 0.9 is `sp0.9-<utterance>` of
    speaker `sp0.9-<speaker>`, another voice to whatever learns voices; at speed 1 it keeps its ids.
    No audio is written: utt2speed has the factor of each utterance, which stage 3 applies by
    resampling (Ko et al., Audio Augmentation for Speech Recognition, Interspeech 2015), so that an
    utterance of 9 s lasts 10 s at speed 0.9. utt2dur has the new durations.

    Args:
        source: a data directory that is not perturbed itself.
        target: the new one; an older one is replaced.
        factors: speeds, each once, e.g. (0.9, 1.0, 1.1).

    Raises:
        UserError: no factor, a factor twice or not above 0; `source` has utt2speed.
    """
    names = [f"{factor:g}" for factor in factors]
    # Written so that a factor that is not a number fails too.
    if not factors or len(set(names)) < len(names) or not all(factor > 0 for factor in factors):
        raise UserError(
            f"--speed_perturb_factors '{' '.join(names)}': give speeds above 0, each once, "
            "e.g. '0.9 1 1.1'"
        )
    if (source / "utt2speed").exists():
        raise UserError(f"{source}: is speed-perturbed already; perturb the set it was made from")
    tables = utterance_tables(source)
    with atomic_dir(target) as temporary:
        if "segments" in tables:
            for name in ("wav.scp", "reco2dur"):
                if (source / name).exists():
                    shutil.copyfile(source / name, temporary / name)
        else:
            tables.append("wav.scp")
        for name in tables:
            count = _write(source / name, temporary / name, factors, _change(name))
        _write(source / "utt2spk", temporary / "utt2speed", factors, lambda _, speed: f"{speed:g}")
        write_spk2utt(temporary, target)
    return count


def _change(table: str) -> Callable[[str, float], str]:
    """What becomes of the values of a table at a factor."""
    if table == "utt2spk":
        return lambda speaker, factor: _prefix(factor) + speaker
    if table == "utt2dur":
        return lambda seconds, factor: repr(round(float(seconds) / factor, 6))
    return lambda value, factor: value


def _prefix(factor: float) -> str:
    return "" if factor == 1 else f"sp{factor:g}-"


def _write(
    source: Path, target: Path, factors: Sequence[float], change: Callable[[str, float], str]
) -> int:
    """The table at all factors, sorted; its number of lines."""

    def at(factor: float) -> Iterator[tuple[str, str]]:
        prefix = _prefix(factor)
        for key, value in iter_table(source):
            yield prefix + key, change(value, factor)

    count = 0
    with open(target, "w", encoding="utf-8", newline="\n") as out:
        # A prefix leaves the order as it was, so that sorted tables merge into a sorted one.
        for key, value in heapq.merge(*map(at, factors)):
            out.write(f"{key} {value}\n")
            count += 1
    return count
