"""The accent classifier's encoder: a small 2-D residual network over normalised log-mel features.

Residual blocks of two 3 x 3 convolutions (He et al., "Deep Residual Learning for Image
Recognition", CVPR 2016) behind a strided stem, which makes the network cheap: it has to run beside
every training step of a recogniser. It keeps both axes, time and mel, to its last block, and that
block's output is what class activation maps are made of.

Whatever lies in the padding is set to zero ahead of every convolution, so that in evaluation mode
an utterance gets from a padded batch exactly what it gets alone.
"""

from __future__ import annotations

from typing import Sequence

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from torch import Tensor, nn

from espnet_saliency.errors import UserError


def ceil_div(lengths: Tensor, stride: int) -> Tensor:
    """Frames that a convolution of this stride leaves, its odd kernel padded by half its width."""
    return torch.div(lengths + stride - 1, stride, rounding_mode="floor")


def mask_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """Set frames beyond `lengths` to zero, whatever is there.

    Args:
        x: (B, C, T, F) or (B, T, F).
        lengths: (B,), valid frames.
    """
    # A choice and not a product: what the caller left in the padding may be NaN.
    return x.masked_fill(~_valid(x, lengths), 0.0)


def _zero_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """The same for what is finite everywhere: a product is several times as fast on a CPU."""
    return x * _valid(x, lengths).to(x.dtype)


def _valid(x: Tensor, lengths: Tensor) -> Tensor:
    time = torch.arange(x.size(-2), device=x.device)
    valid = time < lengths.to(x.device)[:, None]
    return valid.view(x.size(0), *[1] * (x.dim() - 3), x.size(-2), 1)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation and a shortcut; the first may be strided.

    Args:
        inputs, outputs: channels.
        stride: of the first convolution, along time and mel alike.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T, F), zero in padding, and (B,) -> the same of other sizes, >= 0."""
        lengths = ceil_div(lengths, self.stride)
        y = _zero_padding(torch.relu(self.norm1(self.conv1(x))), lengths)
        y = torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))
        return _zero_padding(y, lengths), lengths


class MapEncoder(AbsEncoder):
    """An encoder whose last block, `activations`, keeps both axes, so that maps can be made of it."""

    def activations(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B,) -> the last block's output (B, C, T', F') and its lengths (B,)."""
        raise NotImplementedError

    def forward(
        self, xs_pad: Tensor, ilens: Tensor, prev_states: Tensor | None = None
    ) -> tuple[Tensor, Tensor, None]:
        """(B, T, F), (B,) -> mean over mel (B, T', C), lengths (B,), no states."""
        y, lengths = self.activations(xs_pad, ilens)
        return y.mean(dim=3).transpose(1, 2), lengths, None


class AccentResNet(MapEncoder):
    """Residual network (B, T, F) -> (B, T', C), `encoder: accent_resnet` of ESPnet's cls task.

    Args:
        input_size: mel bins F.
        channels: channels of each stage; every stage after the first halves time and mel.
        blocks: residual blocks in each stage.
        stem_stride: frames and mel bins that the first convolution steps over.
        dropout: probability that a channel is zeroed ahead of each stage after the first.

    Raises:
        UserError: an argument is out of its range.
    """

    def __init__(
        self,
        input_size: int,
        channels: Sequence[int] = (16, 32, 64),
        blocks: int = 1,
        stem_stride: Sequence[int] = (2, 2),
        dropout: float = 0.0,
    ):
        super().__init__()
        if not channels or min(channels) < 1:
            raise UserError(
                f"accent_resnet: channels must be positive numbers, not {list(channels)}"
            )
        if blocks < 1:
            raise UserError(f"accent_resnet: blocks must be at least 1, not {blocks}")
        if len(stem_stride) != 2 or min(stem_stride) < 1:
            raise UserError(
                "accent_resnet: stem_stride must be two positive numbers (time, mel), not "
                f"{list(stem_stride)}"
            )
        if not 0.0 <= dropout < 1.0:
            raise UserError(f"accent_resnet: dropout must lie in [0, 1), not {dropout}")
        self._stem_stride = tuple(stem_stride)
        # 2 s - 1 wide, so that every frame and bin is seen; ceil(T / s) frames come out.
        self.stem = nn.Conv2d(
            1,
            channels[0],
            [max(3, 2 * s - 1) for s in stem_stride],
            self._stem_stride,
            padding=[max(1, s - 1) for s in stem_stride],
            bias=False,
        )
        self.stem_norm = nn.BatchNorm2d(channels[0])
        self.stages = nn.ModuleList()
        for inputs, outputs in zip([channels[0], *channels], channels):
            first = ResidualBlock(inputs, outputs, stride=2 if self.stages else 1)
            rest = [ResidualBlock(outputs, outputs) for _ in range(blocks - 1)]
            self.stages.append(nn.ModuleList([first, *rest]))
        self.dropout = nn.Dropout2d(dropout)
        self._output_size = channels[-1]

    @property
    def stride(self) -> tuple[int, int]:
        """Frames and mel bins that one cell of the output stands for."""
        halvings = 2 ** (len(self.stages) - 1)
        return self._stem_stride[0] * halvings, self._stem_stride[1] * halvings

    def output_size(self) -> int:
        """Channels C of the output."""
        return self._output_size

    def activations(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Output of the last block, with both axes.

        Args:
            x: (B, T, F), normalised log-mel; what lies in the padding is ignored.
            lengths: (B,), frames.

        Returns:
            (B, C, T', F'), >= 0 and zero in padding, and its lengths (B,).
        """
        lengths = lengths.to(x.device)
        y = self.stem(mask_padding(x, lengths)[:, None])
        lengths = ceil_div(lengths, self._stem_stride[0])
        y = _zero_padding(torch.relu(self.stem_norm(y)), lengths)
        for index, stage in enumerate(self.stages):
            if index > 0:
                y = self.dropout(y)
            for block in stage:
                y, lengths = block(y, lengths)
        return y, lengths
