"""Maps that tell what location is worth from what masking is worth: controls made of a real map.

Each keeps what a mask costs (patches, shares, fill, and mostly the shapes of the map) and takes
away that it lies where the accent is heard.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_saliency.saliency.cam import scale01, valid_frames


def roll_in_time(maps: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, F), (B,) -> each map half its utterance later, its end brought to the front."""
    frames = torch.arange(maps.size(1), device=maps.device)
    source = (frames - lengths[:, None] // 2) % lengths[:, None].clamp_min(1)
    index = torch.where(frames < lengths[:, None], source, frames)
    return maps.gather(1, index[:, :, None].expand_as(maps))


def of_the_next(maps: Tensor, lengths: Tensor) -> Tensor:
    """Give each utterance the map of the next one in the batch, the last that of the first.

    The map is stretched or squeezed in time to the utterance's own length (nearest frame). An
    utterance that is alone in its batch gets its own map, half its length later.

    Args:
        maps: (B, T, F), zero in padding.
        lengths: (B,), valid frames.

    Returns:
        (B, T, F), zero in padding.
    """
    if len(maps) == 1:
        return roll_in_time(maps, lengths)
    own, other = lengths[:, None], lengths.roll(-1)[:, None]
    frames = torch.arange(maps.size(1), device=maps.device)
    # The middle of each frame, in whole numbers.
    source = (2 * frames + 1) * other // (2 * own.clamp_min(1))
    source = torch.minimum(source, (other - 1).clamp_min(0))
    stretched = maps.roll(-1, 0).gather(1, source[:, :, None].expand_as(maps))
    return stretched.masked_fill(~valid_frames(lengths, maps.size(1))[:, :, None], 0.0)


def least(maps: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, F) in [0, 1], (B,) -> 1 - map, zero in padding."""
    return (1.0 - maps).masked_fill(~valid_frames(lengths, maps.size(1))[:, :, None], 0.0)


def energy(feats: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, F) log-mel, (B,) -> what is loud: scaled to [0, 1] over its own frames."""
    return scale01(feats, lengths)


DERIVED = {"rolled": roll_in_time, "shuffled": of_the_next, "least": least}
"""Controls made of the map of a classifier; each is (maps, lengths) -> maps."""
