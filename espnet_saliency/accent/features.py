"""How features are computed, so that a classifier's and a recogniser's can be compared."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from espnet_saliency.errors import UserError

if TYPE_CHECKING:
    from torch import nn

_NOT_FEATURES = ("onesided", "frontend_conf", "apply_stft")
"""Arguments of DefaultFrontend that log-mel features of one channel do not depend on."""


@dataclass(frozen=True)
class FeatureSettings:
    """How log-mel features are computed: those of ESPnet's DefaultFrontend."""

    fs: int = 16000
    """Sampling rate in Hz."""
    n_fft: int = 512
    """Length of the transform in samples."""
    win_length: int = 512
    """Length of the window in samples."""
    hop_length: int = 128
    """Samples between frames."""
    window: str | None = "hann"
    """Window function."""
    n_mels: int = 80
    """Mel bins F."""
    fmin: float = 0.0
    """Lowest frequency in Hz."""
    fmax: float = 8000.0
    """Highest frequency in Hz."""
    center: bool = True
    """Frames are centred on their sample (the signal is padded at both ends)."""
    normalized: bool = False
    """The transform is scaled by its length."""
    htk: bool = False
    """HTK's mel scale instead of Slaney's."""

    @classmethod
    def from_frontend_conf(cls, conf: dict[str, Any] | None) -> FeatureSettings:
        """Settings of a `frontend: default` from its `frontend_conf`.

        Raises:
            UserError: an argument that DefaultFrontend does not have, or no log-mel features.
        """
        # Not by building it: this is asked at the start, and ESPnet takes seconds to import.
        given = {key: value for key, value in (conf or {}).items() if key not in _NOT_FEATURES}
        unknown = sorted(given.keys() - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise UserError(
                f"frontend_conf.{unknown[0]}: ESPnet's default frontend has no such argument"
            )
        if not (conf or {}).get("apply_stft", True):
            raise UserError("accent saliency needs features of audio: use apply_stft: true")
        settings = {field.name: field.default for field in dataclasses.fields(cls)} | given
        fs = settings["fs"] = _hertz(settings["fs"])
        if given.get("win_length") is None:
            settings["win_length"] = settings["n_fft"]
        settings["fmin"] = float(given.get("fmin") or 0)
        settings["fmax"] = float(fs / 2 if given.get("fmax") is None else given["fmax"])
        return cls(**settings)

    @classmethod
    def from_frontend(cls, frontend: nn.Module | None) -> FeatureSettings:
        """Settings of a frontend that has been built.

        Raises:
            UserError: it is no DefaultFrontend that computes log-mel features from audio.
        """
        from espnet2.asr.frontend.default import DefaultFrontend

        if not isinstance(frontend, DefaultFrontend):
            what = "stored features (input_size)" if frontend is None else type(frontend).__name__
            raise UserError(
                f"the model takes {what}, but accent saliency needs log-mel features computed in "
                "the model: use frontend: default"
            )
        if not frontend.apply_stft:
            raise UserError("accent saliency needs features of audio: use apply_stft: true")
        stft, mel = frontend.stft, frontend.logmel.mel_options
        return cls(
            fs=int(mel["sr"]),
            n_fft=stft.n_fft,
            win_length=stft.win_length,
            hop_length=stft.hop_length,
            window=stft.window,
            n_mels=mel["n_mels"],
            fmin=float(mel["fmin"]),
            fmax=float(mel["fmax"]),
            center=stft.center,
            normalized=stft.normalized,
            htk=mel["htk"],
        )

    def difference(self, recogniser: FeatureSettings) -> list[str]:
        """What differs between a classifier's settings (self) and a recogniser's.

        Returns:
            one entry a setting, such as "hop_length: classifier 160, recogniser 128".
        """
        return [
            f"{field.name}: classifier {mine}, recogniser {theirs}"
            for field in dataclasses.fields(self)
            if (mine := getattr(self, field.name)) != (theirs := getattr(recogniser, field.name))
        ]


def _hertz(fs: int | str) -> int:
    """A sampling rate as ESPnet takes it: 16000, "16000", "16k"."""
    text = str(fs).strip().lower()
    number, factor = (text[:-1], 1000) if text.endswith("k") else (text, 1)
    try:
        return int(float(number) * factor)
    except ValueError as error:
        raise UserError(
            f"frontend_conf.fs: {fs} is not a sampling rate; write it as 16000 or 16k"
        ) from error
