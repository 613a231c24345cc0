"""Means of weights, and norm statistics that fit them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.models.averaging import averaged, moved_norms, recompute_statistics
from bench.models.network import Network, layer_group


def state(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "w": torch.randn(50, generator=generator),
        "bn.running_mean": torch.randn(3, generator=generator),
        "bn.num_batches_tracked": torch.tensor(seed),
    }


def test_the_mean_of_equals_is_the_same_bits() -> None:
    for count in (2, 3, 7):
        found = averaged([state(5)] * count, [1.0] * count)
        assert all(torch.equal(found[name], tensor) for name, tensor in state(5).items())


def test_what_has_no_weight_has_no_part_and_counters_are_not_averaged() -> None:
    found = averaged([state(1), state(2)], [0.0, 1.0])
    assert all(torch.equal(found[name], tensor) for name, tensor in state(2).items())
    half = averaged([state(1), state(2)], [0.25, 0.75])
    assert torch.allclose(half["w"], 0.25 * state(1)["w"] + 0.75 * state(2)["w"])
    assert half["bn.num_batches_tracked"] == 1


def test_statistics_that_never_moved_are_told() -> None:
    other = {**state(1), "w": torch.zeros(50)}
    assert moved_norms([state(1), other]) == set()
    assert moved_norms([state(1), state(2)]) == {"bn"}
    assert moved_norms([state(1), other, state(2)]) == {"bn"}


def test_statistics_are_those_of_the_batches() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    groups = (layer_group("body", "0", "1"), layer_group("head", "2"))
    network = Network(model, groups, image_size=4)
    batches = list(torch.randn(6, 10, 4))
    recompute_statistics(network, batches, {"1"})
    seen = model[0](torch.cat(batches)).detach()
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert torch.allclose(norm.running_mean, seen.mean(dim=0), atol=1e-6)  # type: ignore[arg-type]
    variances = torch.stack([model[0](batch).detach().var(dim=0) for batch in batches])
    assert torch.allclose(norm.running_var, variances.mean(dim=0), atol=1e-6)  # type: ignore[arg-type]
    assert not model.training
    assert norm.momentum == 0.1


def test_norms_that_were_fixed_keep_their_statistics() -> None:
    """They are part of what the network behind them learned to read."""
    norms = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    model = nn.Sequential(norms[0], nn.Linear(4, 4), norms[1], nn.Linear(4, 2))
    groups = (layer_group("body", "0", "1", "2"), layer_group("head", "3"))
    network = Network(model, groups, image_size=4)
    norms[0].running_mean = torch.arange(4.0)
    fixed = {name: tensor.clone() for name, tensor in norms[0].state_dict().items()}
    batches = list(torch.randn(6, 10, 4))
    recompute_statistics(network, batches, {"2"})
    assert all(torch.equal(norms[0].state_dict()[name], tensor) for name, tensor in fixed.items())
    with torch.no_grad():
        seen = model[1](norms[0](torch.cat(batches)))
    assert torch.allclose(norms[1].running_mean, seen.mean(dim=0), atol=1e-6)  # type: ignore[arg-type]
