"""Kaldi data directories: written, read, checked, and turned into the audio that training reads."""
