"""Accent-invariant speech recognition: saliency-driven spectrogram masking for ESPnet2."""

__version__ = "0.1.0"
