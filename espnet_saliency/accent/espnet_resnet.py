"""ESPnet's own ResNet family as the accent classifier's encoder: `encoder: espnet_resnet`.

`espnet2.spk.encoder.resnet_encoder.ResNetEncoder` (resnet18 to resnet293) has no lengths and no
place in the registry of the cls task. Its layers are taken as they are, on (time, mel) instead of
(mel, time), and run with the padding cleared ahead of every 3 x 3 convolution, so that maps can be
made of its last block as of `accent_resnet`'s. Many times the cost: see benchmarks/README.md.
"""

from __future__ import annotations

import torch
from espnet2.spk.encoder.resnet_encoder import ResNetEncoder
from espnet2.spk.layers.resnet_block import Bottleneck
from torch import Tensor

from espnet_saliency.accent.resnet import MapEncoder, ceil_div, mask_padding
from espnet_saliency.errors import UserError


class EspnetResNet(MapEncoder):
    """ESPnet's ResNet (B, T, F) -> (B, T', C), the mean over mel, T' = ceil(T / 8).

    Args:
        input_size: mel bins F.
        resnet_type: resnet18, resnet34, resnet50, resnet101, resnet152, resnet221 or resnet293.
        m_channels: channels of the first layer; each of the three that follow doubles them.

    Raises:
        UserError: an unknown type.
    """

    stride = (8, 8)
    """Frames and mel bins that one cell of the output stands for."""

    def __init__(self, input_size: int, resnet_type: str = "resnet18", m_channels: int = 32):
        super().__init__()
        try:
            self.net = ResNetEncoder(input_size, resnet_type=resnet_type, m_channels=m_channels)
        except ValueError as error:
            raise UserError(
                f"espnet_resnet: resnet_type {resnet_type!r} is not one of resnet18, resnet34, "
                "resnet50, resnet101, resnet152, resnet221, resnet293"
            ) from error
        expansion = type(self.net.layer4[-1]).expansion
        self._output_size = m_channels * 8 * expansion

    def output_size(self) -> int:
        """Channels C of the output."""
        return self._output_size

    def activations(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Output of the last block, with both axes: see `AccentResNet.activations`."""
        net, lengths = self.net, lengths.to(x.device)
        y = torch.relu(net.bn1(net.conv1(mask_padding(x, lengths)[:, None])))
        y = mask_padding(y, lengths)
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            for block in layer:
                y, lengths = _block(block, y, lengths)
        return y, lengths


def _block(block: torch.nn.Module, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """What `block.forward` computes, with the padding cleared between its convolutions."""
    strided = block.conv2 if isinstance(block, Bottleneck) else block.conv1
    after = ceil_div(lengths, strided.stride[0])
    # A bottleneck's first convolution sees one cell at a time, and keeps the frames.
    first = lengths if isinstance(block, Bottleneck) else after
    y = mask_padding(torch.relu(block.bn1(block.conv1(x))), first)
    y = block.bn2(block.conv2(y))
    if isinstance(block, Bottleneck):
        y = block.bn3(block.conv3(torch.relu(y)))
    y = torch.relu(y + block.shortcut(x))
    return mask_padding(y, after), after
