"""The frontend that hides a share of the features while a recogniser decodes."""

from __future__ import annotations

import pytest
import torch
from espnet2.asr.frontend.default import DefaultFrontend
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.cam import saliency_map
from espnet_saliency.saliency.probe import MaskedFrontend

CONF = {"fs": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80}


@pytest.fixture
def speech():
    generator = torch.Generator().manual_seed(3)
    waves = 0.1 * torch.randn(2, 24000, generator=generator).cumsum(dim=1) / 50
    return waves, torch.tensor([24000, 16000])


def hidden_cells(frontend, speech) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    plain, lengths = DefaultFrontend(**CONF)(*speech)
    masked, same = frontend(*speech)
    assert torch.equal(lengths, same)
    return (plain != masked), plain, lengths


def test_the_share_is_hidden_and_no_more(speech):
    for share in (0.1, 0.3):
        frontend = MaskedFrontend({"order": "random", "share": share}, **CONF).eval()
        cells, _, lengths = hidden_cells(frontend, speech)
        for mine, length in zip(cells, lengths.tolist()):
            assert mine[:length].float().mean() == pytest.approx(share, abs=0.01)
            assert not mine[length:].any()


def test_an_utterance_is_masked_alike_alone_and_in_a_batch_and_at_each_time(speech):
    frontend = MaskedFrontend({"order": "random", "share": 0.2}, **CONF).eval()
    together, plain, lengths = hidden_cells(frontend, speech)
    torch.manual_seed(99)
    alone, _, _ = hidden_cells(frontend, (speech[0][1:, :16000], speech[1][1:]))
    assert torch.equal(together[1, : lengths[1]], alone[0])
    other = MaskedFrontend({"order": "random", "share": 0.2, "seed": 1}, **CONF).eval()
    assert not torch.equal(hidden_cells(other, speech)[0], together)


def test_smaller_shares_lie_inside_larger_ones(speech):
    small, large = (
        hidden_cells(MaskedFrontend({"order": "random", "share": s}, **CONF).eval(), speech)[0]
        for s in (0.1, 0.4)
    )
    assert (small & ~large).sum() == 0 and large.sum() > 3 * small.sum()


def test_salient_hides_where_the_map_is_high_and_least_where_it_is_low(speech, experiment):
    cells, plain, lengths = {}, None, None
    for order in ("salient", "least"):
        hide = {"order": order, "share": 0.2, "classifier": str(experiment)}
        frontend = MaskedFrontend(hide, **CONF).eval()
        assert not [name for name in frontend.state_dict() if "classifier" in name or "outside" in name]
        cells[order], plain, lengths = hidden_cells(frontend, speech)
    maps, _ = saliency_map(frontend._outside[0], plain, lengths)
    mean = {order: maps[mask].mean() for order, mask in cells.items()}
    assert mean["salient"] > maps[0].mean() > mean["least"]


@pytest.mark.parametrize(
    "hide, message",
    [
        ({"order": "best", "share": 0.1}, "hide.order: 'best' is not one of salient, random, least"),
        ({"order": "random", "share": 1.5}, "mask_ratio: 1.5 is not a number within"),
        ({"order": "random", "share": 0.1, "colour": 1}, "hide.colour: unknown"),
        ({"order": "salient", "share": 0.1}, "order salient needs a classifier"),
    ],
)
def test_mistakes(hide, message):
    with pytest.raises(UserError, match=message):
        MaskedFrontend(hide, **CONF)


def test_a_classifier_of_other_features_is_refused(experiment):
    hide = {"order": "salient", "share": 0.1, "classifier": str(experiment)}
    with pytest.raises(UserError, match="hop_length: classifier 160, recogniser 256"):
        MaskedFrontend(hide, **{**CONF, "hop_length": 256})
