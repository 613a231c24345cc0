"""Vectors of all layer groups in one pass, against the groups run one by one."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from bench.methods.plan import HEAD
from bench.models.evaluation import Trunk
from bench.models.pooled_groups import pooled_groups
from bench.system.token_rows import PADDING
from tests.models.small import small_network
from tests.texts import WIDTH, text_backbone


def mean(maps: Tensor) -> Tensor:
    """Over positions; Swin's maps have channels last."""
    if maps.ndim == 2:
        return maps
    if maps.ndim == 3:
        return maps.mean(dim=1)
    return maps.mean(dim=(1, 2) if maps.shape[1] == maps.shape[2] else (2, 3))


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("resnet18", 32),
        ("squeezenet1_1", 64),
        pytest.param("googlenet", 32, marks=pytest.mark.campaign),  # has branches
        pytest.param("swin_t", 64, marks=pytest.mark.campaign),
        pytest.param("vit_b_32", 64, marks=pytest.mark.campaign),
    ],
)
def test_each_group_gives_the_means_of_its_output(backbone: str, size: int) -> None:
    network = small_network(backbone, image_size=size).eval()
    names = [group.name for group in network.groups if not group.branch and group.name != HEAD]
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        last, outputs = network.captured(images, names, stop=HEAD)
    expected = [mean(outputs[name]) for name in names]
    pooled = pooled_groups(network)
    pooled.network.eval()
    assert list(pooled.names) == names
    assert pooled.widths(images[:1]) == [each.shape[1] for each in expected]
    trunk = Trunk(pooled.network, HEAD, precision="fp32", parallel_batches=1)
    (found,) = trunk([images])
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-4)
    shape = pooled.head_input(images[:1])
    assert shape == (last.shape[1:] if last.ndim == 2 else None)


def test_blocks_of_texts_give_vectors_as_the_model_pools_them() -> None:
    network = small_network("language_tiny").eval()
    body = cast(Any, network.model).body
    ids = torch.tensor([[2, 8, 3, 9], [4, 6, PADDING, PADDING]], dtype=torch.int32)
    pooled = pooled_groups(network)
    pooled.network.eval()
    assert pooled.names == (*(f"block{n + 1}" for n in range(len(body.blocks))), "norm")
    expected = []
    with torch.no_grad():
        states = body.word_embeddings(ids.clamp(min=0)) + body.position_embeddings(torch.arange(4))
        for block in body.blocks:
            states = block(states, (ids >= 0)[:, None, None])
            expected.append(states)
        expected.append(body.norm(states))
        found = pooled.network(ids, stop=HEAD)
    assert cast(Any, network.model).pooling == "mean"
    means = [torch.stack([each[0].mean(dim=0), each[1, :2].mean(dim=0)]) for each in expected]
    torch.testing.assert_close(found, torch.cat(means, dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.campaign
def test_blocks_of_models_of_transformers_do_too() -> None:
    pytest.importorskip("transformers")
    network = small_network(text_backbone()).eval()
    model, rows = cast(Any, network.model), [[2, 8, 3, 9], [4, 6, PADDING, PADDING]]
    ids = torch.tensor(rows, dtype=torch.int32)
    pooled = pooled_groups(network)
    pooled.network.eval()
    assert pooled.names == ("block1", "block2")
    assert [group.name for group in network.groups] == ["embeddings", *pooled.names, HEAD]
    with torch.no_grad():
        states = model.body(
            input_ids=ids.clamp(min=0), attention_mask=(ids >= 0), output_hidden_states=True
        ).hidden_states[1:]
        found = pooled.network(ids, stop=HEAD)
    assert model.pooling == "cls"
    torch.testing.assert_close(found, torch.cat([each[:, 0] for each in states], dim=1))
    trunk = Trunk(pooled.network, HEAD, precision="fp32", parallel_batches=1)
    torch.testing.assert_close(next(iter(trunk([ids]))), found)
    assert pooled.widths(ids[:1]) == [WIDTH, WIDTH]


@pytest.mark.campaign
def test_groups_that_run_at_once_have_the_name_of_the_last() -> None:
    network = small_network("timm/test_byobnet.r160_in1k", image_size=32).eval()
    runs = [group.name for group in network.groups if group.run is not None]
    pooled = pooled_groups(network)
    assert (len(pooled.names), len(runs)) == (1, 2)
    assert pooled.names[0] == network.groups[-2].name
