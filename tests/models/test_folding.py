"""Networks with every BatchNorm in the weights before it, beside the networks that they come from."""

from __future__ import annotations

import copy

import pytest
import torch
from test_backbones import BANDS, EVERY, padded, seeded, small, trained_a_little
from torch import nn
from torch.nn import functional

from xvectors.models.folding import AffineNorm, BiasedConv, ClampedNorm, FoldedNorm, fold_norms
from xvectors.models.layers.padding import FrameNorm, Padding, RectifiedNorm


@pytest.mark.parametrize("filler", [0.0, float("nan")])
@EVERY
def test_a_folded_network_computes_the_same(name: str, filler: float) -> None:
    model = trained_a_little(small(name))
    folded = fold_norms(copy.deepcopy(model))
    assert name == "lstm" or any(isinstance(module, nn.BatchNorm1d) for module in model.modules())
    assert not any(isinstance(module, nn.BatchNorm1d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    recordings = [seeded(model.context_frames + extra, BANDS, seed=extra) for extra in (0, 3, 101, 180)]
    batch, lengths = padded(recordings, filler)
    with torch.inference_mode():
        for return_embedding in (False, True):
            expected = model(batch, lengths=lengths, return_embedding=return_embedding)
            found = folded(batch.clone(), lengths=lengths, return_embedding=return_embedding)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
            assert expected.std() > 1e-3  # the comparison could fail


def test_the_networks_of_the_recipe_resnet_have_no_norm_left_between_their_convolutions() -> None:
    folded = fold_norms(trained_a_little(small("thin_resnet")))
    kinds = [type(module) for module in folded.modules()]
    assert kinds.count(BiasedConv) == 12  # the first, two in each of four blocks, three shortcuts
    assert kinds.count(FoldedNorm) == 13  # and the one behind the linear layer
    assert kinds.count(AffineNorm) == 1  # between the pooling and the linear layer


@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_after_training_is_an_affine_map(affine: bool) -> None:
    torch.manual_seed(0)
    norm = FrameNorm(5, affine=affine)
    norm(3 + 2 * torch.randn(4, 20, 5))
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 2.0)
        nn.init.uniform_(norm.bias, -1.0, 1.0)
    norm.eval()
    x = torch.randn(2, 7, 5)
    padding = Padding(torch.tensor([7, 4]), 7, x.device)
    for ends in (None, padding):
        torch.testing.assert_close(AffineNorm(norm)(x, ends), norm(x, ends), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("scales", [[1.5, 0.7, 0.3, 1e-3, 0.2, 1.0], [1.5, -0.7, 0.3, -1e-3, 0.0, 1e-41]], ids=str)
def test_a_rectified_norm_before_a_linear_layer_becomes_a_clamp(scales: list[float]) -> None:
    """With scales above zero; and of either sign, zero, and too small to divide by."""
    torch.manual_seed(0)
    norm, linear = RectifiedNorm(6), nn.Linear(6, 3)
    norm(3 + 2 * torch.randn(4, 20, 6))
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(scales))
        norm.bias.copy_(torch.tensor([-0.5, 0.4, -0.1, 0.3, 0.4, -0.6]))
    norm.eval()
    x = 3 + 4 * torch.randn(2, 50, 6)
    expected = linear(norm(x)).detach()
    clamp = ClampedNorm(norm, linear)
    assert clamp.one_sided == (min(scales) > 0)
    torch.testing.assert_close(linear(clamp(x)), expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.1  # the comparison could fail


def test_what_is_not_followed_by_a_norm_is_left_alone() -> None:
    model = trained_a_little(small("ecapa"))  # linear layers, ReLU, BatchNorm: nothing to put together there
    folded = fold_norms(copy.deepcopy(model))
    weights = dict(folded.named_parameters())
    same = [key for key, value in model.named_parameters() if key in weights and torch.equal(weights[key], value)]
    assert [key for key in same if "tdnn" in key and key.endswith("weight")]
    assert functional.mse_loss(model(seeded(2, 40, BANDS)), folded(seeded(2, 40, BANDS))) < 1e-9
