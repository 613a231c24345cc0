"""Adapters: what they add, that at the start they change nothing, as merging does."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.errors import PlanError
from bench.methods.plan import ADAPTER, Plan, Term, adapter_of
from bench.methods.strategies import STRATEGIES
from bench.models import build_network, describe_weights, layer_group_names, outline
from bench.models.adapters import attach, merge
from bench.models.adapters.lora import LowRank
from bench.models.adapters.side import SideTuning
from bench.models.build import valueless_network
from bench.models.families import FAMILIES
from bench.models.network import Network, layer_group
from bench.suite import Entry
from bench.system.token_rows import PADDING
from tests.texts import VOCABULARY, small_model
from tests.texts import WIDTH as CHANNELS

VIT, WIDTH, BLOCKS = "vit_b_16", 768, 12
LINEAR = Entry(name="linear")

SMALL_SIDE = sum((9 * a + 3) * b for a, b in ((3, 32), (32, 64), (64, 128)))
"""Convolutions with biases, and scales and shifts of their norms."""

Kinds = dict[str, dict[str, Any]]
PROMPTED = ("bert", "roberta", "electra", "distilbert")
EXACT: Kinds = {
    "lora": {"r": 2, "alpha": 4.0},
    "ssf": {"spread": 0.0},
    "adaptformer": {"width": 4},
    "side_tuning": {"side": "copy"},
}
"""Those that leave a network as it was."""
MERGED: list[tuple[str, dict[str, Any]]] = [
    ("lora", {"r": 2}),
    ("lora", {"r": 2, "layers": "all"}),
    ("ssf", {}),
]
OTHER_NORMS = ("llama", "qwen3", "gemma2")
"""Networks with norms of transformers' own: what is behind these stays."""
NEARLY: Kinds = {"ssf": {"spread": 1e-4}, "houlsby": {"width": 4}}


def _plan(name: str, backbone: str, **options: Any) -> Plan:
    return STRATEGIES.get(name).function(layer_group_names(backbone), 2, **options)


def _term(name: str, **options: Any) -> Term:
    adapter = STRATEGIES.get(name).function(layer_group_names(VIT), 2, **options).adapter
    assert adapter is not None
    return adapter


def _tiny_vit() -> Network:
    """A vision transformer of torchvision: two blocks of 16 channels, patches of 8 pixels."""
    from torchvision.models import VisionTransformer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VisionTransformer(16, 8, 2, 2, 16, 32, num_classes=3)
        nn.init.normal_(model.heads.head.weight)
    return Network(model, FAMILIES["vit"](model), image_size=16)


def _tiny_timm() -> Network:
    from timm import create_model

    from bench.models.timm_models import timm_groups

    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("vit_tiny_patch16_224", num_classes=3, **sizes)
    return Network(model, timm_groups(model), image_size=16)


def _tiny_swin() -> Network:
    """A Swin of torchvision, whose attention reads weights: a block in each of four stages."""
    from torchvision.models import SwinTransformer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SwinTransformer([4, 4], 4, [1] * 4, [1] * 4, [2, 2], num_classes=3)
    return Network(model, FAMILIES["swin"](model), image_size=32)


def _tiny_beit() -> Network:
    """A BEiT of timm, which adds biases of its own to queries and values."""
    from timm import create_model

    from bench.models.timm_models import timm_groups

    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("beit_base_patch16_224", num_classes=3, **sizes)
    return Network(model, timm_groups(model), image_size=16)


def _cnn(backbone: str) -> Network:
    return build_network(
        backbone,
        weights=describe_weights(backbone, Entry(name="none")),
        head=LINEAR,
        num_classes=3,
        seed=0,
        image_size=32,
    )


TEXTS: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in PROMPTED},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c"], "conv_kernel_size": 3},
    "modernbert": {},
    "mpnet": {},
    "gpt2": {},
    "llama": {},
    "qwen3": {"num_key_value_heads": 1},
    "gemma2": {"num_key_value_heads": 1},
}
"""Kinds of models of transformers, with more of what they are."""


def _tiny_text(kind: str) -> Network:
    """A model of transformers: two blocks of 16 channels."""
    from bench.models.text.transformers_models import TextModel, text_groups

    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = small_model(kind, **TEXTS[kind])
        body.pooler = None
        model = TextModel(body, pooling="mean")
        model.classifier = nn.Linear(CHANNELS, 3)
    return Network(model, text_groups(model), image_size=16)


NETWORKS = {
    "torchvision": _tiny_vit,
    "timm": _tiny_timm,
    "swin": _tiny_swin,
    "beit": _tiny_beit,
    "cnn": partial(_cnn, "shufflenet_v2_x0_5"),
    "norms with activations": partial(_cnn, "timm/test_efficientnet"),
    **{kind: partial(_tiny_text, kind) for kind in TEXTS},
}
CNNS = ("cnn", "norms with activations")
EACH = [
    pytest.param(name, marks=pytest.mark.campaign)
    if name in TEXTS and name not in ("bert", "gpt2")
    else name
    for name in NETWORKS
]
"""Norms behind and in front of MLPs stand for the other models of texts."""
TRANSFORMERS = [each for each in EACH if each not in CNNS]


def inputs_of(network: Network) -> Tensor:
    """Four images, or texts of 9 tokens and fewer."""
    generator, side = torch.Generator().manual_seed(1), network.image_size
    if not network.takes_texts:
        return torch.randn(4, 3, side, side, generator=generator)
    ids = torch.randint(5, len(VOCABULARY), (4, 9), generator=generator, dtype=torch.int32)
    lengths = torch.tensor([[9], [4], [1], [6]])
    return ids.where(torch.arange(9) < lengths, PADDING)


def attached(network: Network, name: str, **options: Any) -> Network:
    """The same network with an adapter, its own tensors untouched."""
    term = _term(name, **options)
    groups = attach(network.model, network.groups, term, backbone="tiny", seed=3)
    return Network(network.model, groups, image_size=network.image_size)


def _varied(network: Network) -> Network:
    """The network with other values everywhere, in evaluation."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def _added(network: Network) -> dict[str, Tensor]:
    own = network.model.named_parameters()
    return {name: each for name, each in own if adapter_of(name) is not None}


def _trained(name: str, backbone: str, **options: Any) -> int:
    """How many parameters train beside those of the head."""
    plan = _plan(name, backbone, **options)
    network = valueless_network(backbone, LINEAR, 2, 0, plan.adapter)
    stage = plan.stages[0]
    return sum(
        parameter.numel()
        for own, parameter in network.model.named_parameters()
        if stage.rule_for(network.address_of(own)).lr is not None
        and network.group_of(own).name != "head"
    )


@pytest.mark.parametrize(
    ("name", "options", "backbone", "count"),
    [
        ("bitfit", {}, "resnet18", 4_800),
        ("bitfit", {}, "resnet50", 26_560),
        ("bitfit", {}, VIT, 102_912),
        ("norm_only", {}, "resnet18", 9_600),
        ("norm_only", {}, "resnet50", 53_120),
        ("norm_only", {}, VIT, 38_400),
        ("lora", {}, "resnet18", 287_384),
        ("lora", {}, "resnet50", 635_544),
        ("lora", {}, VIT, 294_912),
        ("lora", {"top": 3}, VIT, 294_912 // BLOCKS * 2),
        ("lora", {"top": 3}, "timm/vit_base_patch16_224", 294_912 // BLOCKS * 3),
        ("ssf", {}, VIT, 205_824),
        ("houlsby", {"width": 8}, VIT, 24 * (2 * 8 * WIDTH + 8 + WIDTH) + 38_400),
        ("houlsby", {"width": 8, "top": 2}, VIT, 2 * (2 * 8 * WIDTH + 8 + WIDTH) + 6 * WIDTH),
        ("adaptformer", {"width": 64}, VIT, BLOCKS * (2 * WIDTH * 64 + 64 + WIDTH)),
        ("vpt", {"tokens": 5, "deep": False}, VIT, 5 * WIDTH),
        ("vpt", {"tokens": 5, "deep": True}, VIT, BLOCKS * 5 * WIDTH),
        ("side_tuning", {}, "resnet18", 11_689_512 - 513_000 + 1),
        ("side_tuning", {}, VIT, 86_567_656 - 769_000 + 1),
        ("side_tuning", {"side": "small"}, "resnet18", SMALL_SIDE + 129 * 512 + 1),
        ("vpt", {"tokens": 5, "deep": True, "top": 3}, VIT, 2 * 5 * WIDTH),
    ],
)
def test_so_many_parameters_train(
    name: str, options: dict[str, Any], backbone: str, count: int
) -> None:
    assert _trained(name, backbone, **options) == count


MINILM = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "vocab_size": 30522,
}
MINILM_BIASES = 6 * (4 * 384 + 1536 + 384 + 2 * 384) + 384


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("full_finetune", {}, 22_565_376),
        ("lora", {"r": 8}, 73_728),
        ("lora", {"r": 8, "layers": "all"}, 6 * 8 * (4 * 768 + 2 * (384 + 1536))),
        ("houlsby", {"width": 8}, 12 * (2 * 8 * 384 + 8 + 384) + 13 * 768),
        ("adaptformer", {"width": 64}, 6 * (2 * 384 * 64 + 64 + 384)),
        ("ssf", {}, 2 * MINILM_BIASES),
        ("bitfit", {}, MINILM_BIASES),
        ("norm_only", {}, 13 * 768),
        ("vpt", {"tokens": 5, "deep": False}, 5 * 384),
        ("vpt", {"tokens": 5, "deep": True}, 6 * 5 * 384),
        ("side_tuning", {}, 22_565_376 + 1),
    ],
)
def test_so_many_parameters_of_minilm_train(
    name: str, options: dict[str, Any], count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.getbasetemp() / "minilm"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(MINILM))
    assert _trained(name, f"hf/{folder}", **options) == count


def test_the_two_libraries_have_the_same_transformer() -> None:
    for name in ("bitfit", "norm_only", "lora", "ssf", "houlsby", "adaptformer", "vpt"):
        assert _trained(name, VIT) == _trained(name, "timm/vit_base_patch16_224"), name


@pytest.mark.parametrize("network", EACH)
@pytest.mark.parametrize("name", EXACT)
def test_at_the_start_nothing_changes(network: str, name: str) -> None:
    plain = NETWORKS[network]().eval()
    if network in CNNS and name == "adaptformer":
        with pytest.raises(PlanError, match="adaptformer needs transformer blocks"):
            attached(plain, name)
        return
    images = inputs_of(plain)
    with torch.no_grad():
        before = plain(images)
        after = attached(plain, name, **EXACT[name]).eval()(images)
    assert torch.equal(before, after)


@pytest.mark.parametrize("network", ["torchvision", "timm", "bert"])
@pytest.mark.parametrize("name", NEARLY)
def test_at_the_start_little_changes(network: str, name: str) -> None:
    plain = NETWORKS[network]().eval()
    images = inputs_of(plain)
    with torch.no_grad():
        before = plain(images)
        after = attached(plain, name, **NEARLY[name]).eval()(images)
    assert 0 < (after - before).norm() < 0.1 * before.norm()


@pytest.mark.parametrize("network", EACH)
@pytest.mark.parametrize(("name", "options"), MERGED)
def test_merged_is_unmerged(network: str, name: str, options: dict[str, Any]) -> None:
    adapted = _varied(attached(NETWORKS[network](), name, **options))
    assert _without_effect(adapted) == []
    with torch.no_grad():
        unmerged = adapted(inputs_of(adapted))
        plain = _varied(NETWORKS[network]())(inputs_of(adapted))
        merge(adapted.model)
        kept = name == "ssf" and network in OTHER_NORMS
        assert bool(_added(adapted)) == kept
        merged = adapted(inputs_of(adapted))
    assert (unmerged - plain).norm() > 1e-2 * plain.norm()
    assert (merged - unmerged).norm() <= 1e-5 * unmerged.norm()


def _without_effect(adapted: Network) -> list[str]:
    """What was added and no output depends on."""
    added = _added(adapted)
    loss = adapted(inputs_of(adapted)).square().sum()
    gradients = torch.autograd.grad(loss, list(added.values()), allow_unused=True)
    found = zip(added, gradients, strict=True)
    return [name for name, gradient in found if gradient is None or not gradient.any()]


@pytest.mark.parametrize("network", TRANSFORMERS)
@pytest.mark.parametrize("name", ["houlsby", "adaptformer"])
def test_all_bottlenecks_count(network: str, name: str) -> None:
    assert _without_effect(_varied(attached(NETWORKS[network](), name, width=4))) == []


@pytest.mark.parametrize("name", ["houlsby", "adaptformer", "side_tuning"])
def test_what_is_no_linear_map_stays(name: str) -> None:
    adapted = attached(_tiny_vit(), name)
    before = set(_added(adapted))
    merge(adapted.model)
    assert set(_added(adapted)) == before


@pytest.mark.parametrize("name", [*EXACT, "houlsby", "vpt"])
def test_values_depend_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(5)
    first = _added(attached(_tiny_vit(), name))
    torch.rand(3)
    second = _added(attached(_tiny_vit(), name))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_low_rank_gradients() -> None:
    layer = nn.Linear(5, 4).double()
    part = LowRank(layer, 4, r=2, alpha=3.0, dropout=0.0).double()
    nn.init.normal_(part.up.weight)
    inputs = torch.randn(6, 5, dtype=torch.float64)
    down, up = (each.weight.detach().clone().requires_grad_() for each in (part.down, part.up))

    def given(down: Tensor, up: Tensor) -> Tensor:
        return torch.func.functional_call(part, {"down.weight": down, "up.weight": up}, (inputs,))

    assert torch.autograd.gradcheck(given, (down, up))
    assert torch.allclose(given(down, up), 1.5 * inputs @ (up @ down).T)
    assert torch.allclose(inputs @ part.weight().T, part(inputs))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(3, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
    ],
)
def test_low_rank_convolutions(layer: nn.Conv2d) -> None:
    outputs, inputs, groups = layer.out_channels, layer.in_channels, layer.groups
    part = LowRank(layer, outputs, r=2, alpha=1.0, dropout=0.0)
    nn.init.normal_(part.up.weight)
    images = torch.randn(2, inputs, 9, 9)
    options = (layer.stride, layer.padding, layer.dilation, groups)
    merged = nn.functional.conv2d(images, part.weight(), None, *options)
    assert torch.allclose(part(images), merged, atol=1e-6)
    assert part(images).shape == layer(images).shape
    count = sum(parameter.numel() for parameter in part.parameters())
    assert count == 2 * (layer.weight[0, 0].numel() * inputs + outputs) // groups


def test_convolutions_with_groups_are_adapted_where_these_share_the_rank() -> None:
    depthwise, two = nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 3, groups=2)
    model = nn.Sequential(depthwise, two, nn.Conv2d(4, 4, 1))
    groups = (layer_group("body", "0", "1", "2"), layer_group("head", "3"))
    for r, adapted in ((3, ["2"]), (4, ["1", "2"])):
        own = deepcopy(model)
        attach(own, groups, _term("lora", r=r), backbone="tiny", seed=0)
        assert [name for name, layer in own.named_children() if hasattr(layer, ADAPTER)] == adapted


def test_prompts_stand_behind_the_class_token_and_are_replaced_in_each_block() -> None:
    network = attached(_tiny_timm(), "vpt", tokens=5, deep=True).eval()
    seen = []
    for block in network.model.blocks:
        block.norm1.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        network(inputs_of(network))
    assert [each.shape[1] for each in seen] == [1 + 5 + 4] * 2
    for block, tokens in zip(network.model.blocks, seen, strict=True):
        assert torch.equal(tokens[:, 1:6], block.adapter.tokens.expand(4, -1, -1))


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize(
    "kind", [each for each in EACH if each in PROMPTED or hasattr(each, "marks")]
)
def test_prompts_of_texts(kind: str, deep: bool) -> None:
    """They stand behind the first token, are seen by every text alike, and do not come out."""
    plain = NETWORKS[kind]().eval()
    if kind not in PROMPTED:
        with pytest.raises(PlanError, match="positions that are added in front of them"):
            attached(plain, "vpt")
        return
    adapted = _varied(attached(plain, "vpt", tokens=5, deep=deep))
    assert _without_effect(adapted) == []
    seen: list[Tensor] = []
    body = adapted.model.body
    blocks = body.transformer.layer if kind == "distilbert" else body.encoder.layer
    for block in blocks:
        attention = block.attention
        attention.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    ids = inputs_of(adapted)
    with torch.no_grad():
        together = adapted(ids)
        assert [each.shape[1] for each in seen] == [9 + 5] * 2
        for block, tokens in zip(blocks, seen, strict=True):
            if hasattr(block, "adapter"):
                assert torch.equal(tokens[:, 1:6], block.adapter.tokens.expand(4, -1, -1))
        alone = torch.cat([adapted(text[None, : int((text >= 0).sum())]) for text in ids])
        states = body(input_ids=ids.clamp(min=0), attention_mask=(ids >= 0).long())
    assert torch.allclose(together, alone, atol=1e-5)
    assert states.last_hidden_state.shape == (4, 9, CHANNELS)


@pytest.mark.parametrize("network", EACH)
def test_a_side_network_mixes_its_features_with_those_of_the_backbone(network: str) -> None:
    """σ(a)·B + (1 − σ(a))·S in front of the head: B alone for a → ∞, S alone for a → −∞."""
    plain = NETWORKS[network]().eval()
    images, cut = inputs_of(plain), "head"
    with torch.no_grad():
        base = plain(images, stop=cut)
        side = "copy" if plain.takes_texts else "small"
        adapted = attached(plain, "side_tuning", side=side).eval()
        adapter = adapted.model.adapter
        for parameter in adapter.side.parameters():
            parameter += 0.1  # a copy would give the same as the backbone
        beside = adapter.side(images)
        for a, share in ((0.0, 0.5), (1.5, 0.8175744762), (200.0, 1.0), (-200.0, 0.0)):
            adapter.mix.fill_(a)
            mixed = adapted(images, stop=cut)
            assert torch.allclose(mixed, share * base + (1 - share) * beside, atol=1e-6)
        adapter.mix.fill_(200.0)
        assert torch.equal(adapted(images, stop=cut), base)
        logits = adapted(images)
        assert torch.equal(adapted(adapted(images, stop=cut), start=cut), logits)
        assert torch.equal(adapted.model(images), logits)  # the library's own call too
    assert adapted.boundaries == (cut,)


def test_side_tuning_gradients() -> None:
    side = nn.Linear(3, 2).double()
    adapter = SideTuning(side, ()).double()
    base, inputs = torch.randn(4, 2).double(), torch.randn(4, 3).double()
    given = {name: each.detach().clone() for name, each in adapter.named_parameters()}

    def mixed(*values: Tensor) -> Tensor:
        named = dict(zip(given, values, strict=True))
        return torch.func.functional_call(adapter, named, (inputs, base))

    assert torch.autograd.gradcheck(mixed, [each.requires_grad_() for each in given.values()])


def test_a_small_side_network_needsinputs_of() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    groups = (layer_group("body", "0"), layer_group("head", "1"))
    with pytest.raises(PlanError, match="side must be copy on this backbone"):
        attach(model, groups, _term("side_tuning", side="small"), backbone="tiny", seed=0)


@pytest.mark.parametrize("name", ["lora", "ssf", "houlsby", "adaptformer", "vpt"])
def test_the_top_groups_of_a_text_backbone_alone_get_adapters(name: str) -> None:
    plain = NETWORKS["bert"]()
    adapted = attached(plain, name, top=1)
    found = {adapted.group_of(own).name for own in _added(adapted)}
    assert found == {"block2"}
    assert _without_effect(_varied(adapted)) == []


@pytest.mark.parametrize("network", ["torchvision", "timm"])
@pytest.mark.parametrize("name", ["lora", "ssf", "houlsby", "adaptformer", "vpt"])
def test_the_top_groups_alone_get_adapters(network: str, name: str) -> None:
    plain = NETWORKS[network]().eval()
    images = inputs_of(plain)
    (boundary,) = [each.name for each in plain.groups if each.name in ("block2", "blocks.1")]
    top = [group.name for group in reversed(plain.groups)].index(boundary)
    with torch.no_grad():
        before = plain(images, stop=boundary)
        adapted = attached(plain, name, top=top).eval()
        assert torch.equal(adapted(images, stop=boundary), before)
        adapted(before, start=boundary)
    behind = adapted.groups[-1 - top : -1]
    assert {adapted.group_of(own) for own in _added(adapted)} <= set(behind)
    assert _added(adapted)


def test_what_a_backbone_has_no_place_for_is_told() -> None:
    for name in ("houlsby", "adaptformer", "vpt"):
        with pytest.raises(PlanError, match=f"{name} needs transformer blocks.*resnet18 has none"):
            outline("resnet18", LINEAR, _plan(name, "resnet18").adapter)
    with pytest.raises(PlanError, match="class token"):
        outline("swin_t", LINEAR, _plan("vpt", "swin_t").adapter)
    with pytest.raises(PlanError, match="convolutions that do not standardise their weights"):
        outline("timm/test_nfnet", LINEAR, _plan("lora", "timm/test_nfnet").adapter)
    for backbone in ("swin_t", "vit_b_32"):
        with pytest.raises(PlanError, match="dropout must be 0"):
            outline(backbone, LINEAR, _plan("lora", backbone, dropout=0.1).adapter)
    with pytest.raises(PlanError, match="vit_b_16 has none in its top 1 group"):
        outline(VIT, LINEAR, _plan("lora", VIT, top=1).adapter)
    with pytest.raises(PlanError, match="one of lora, ssf, houlsby"):
        outline("resnet18", LINEAR, Term(name="lora2"))
