"""Running the groups gives the library's own numbers, whole or in pieces."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from bench.models import BACKBONES, Network, minimum_image_size
from bench.models.network import LayerGroup, layer_group, save_tensors
from tests.models.small import CLASSES, SMALL, random_images, small_network

BRANCHES = ("aux", "aux1", "aux2")


def test_a_member_of_every_family_is_small_enough() -> None:
    families = {entry.family for entry in BACKBONES.values()}
    assert {BACKBONES[name].family for name in SMALL} == families


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.campaign
def test_equals_library(name: str) -> None:
    if name == "efficientnet_lite0":
        pytest.importorskip("timm")
    network = small_network(name)
    images = random_images(SMALL[name], count=1 if SMALL[name] > 200 else 2)
    with torch.no_grad():
        network.eval()
        logits = network(images)
        assert torch.equal(logits, network.model(images))
        assert_pieces_give(logits, network, images)
        if name != "inception_v3":  # in training the library cannot take images this small
            assert_training_equal(network, images)


def assert_pieces_give(logits: Tensor, network: Network, images: Tensor) -> None:
    cuts = [None, *network.boundaries, None]
    activations = images
    for start, stop in pairwise(cuts):
        before = activations.clone()
        following = network(activations, start=start, stop=stop)
        assert torch.equal(before, activations), f"{start} overwrites its input"
        activations = following
    assert torch.equal(activations, logits)


def test_head_leaves_its_features_as_they_are_in_training() -> None:
    for name in ("efficientnet_b0", "mobilenet_v3_small", "mnasnet0_5"):  # in-place dropout
        network = small_network(name).train()
        with torch.no_grad():
            features = network(random_images(32), stop="head")
            before = features.clone()
            network(features, start="head")
        assert torch.equal(features, before)


def assert_training_equal(network: Network, images: Tensor) -> None:
    """The same dropout, stochastic depth and batch statistics, from the same draws."""
    network.train()
    torch.manual_seed(1)
    ours, _ = network.captured(images, BRANCHES)
    torch.manual_seed(1)
    library = network.model(images)
    library = library if isinstance(library, Tensor) else library.logits
    assert torch.equal(ours, library)


@pytest.mark.parametrize("name", ["resnet18", "swin_t", "mobilenet_v3_small", "mnasnet0_5"])
def test_runs_at_its_smallest_size(name: str) -> None:
    size = minimum_image_size(name)
    network = small_network(name, image_size=size).eval()
    assert network(random_images(size)).shape == (2, CLASSES)


def test_inception_auxiliary_classifier() -> None:
    network = small_network("inception_v3", image_size=299)
    images = random_images(299)
    with torch.no_grad():
        torch.manual_seed(1)
        logits, aux = network.captured(images, BRANCHES)
        torch.manual_seed(1)
        library = network.model(images)
    assert torch.equal(logits, library.logits)
    assert len(aux) == 1
    assert torch.equal(aux["aux"], library.aux_logits)


def test_inception_leaves_auxiliary_classifier_out_on_small_images() -> None:
    network = small_network("inception_v3")
    with torch.no_grad():
        logits, aux = network.captured(random_images(75), BRANCHES)
    assert logits.shape == (2, CLASSES)
    assert aux == {}
    assert "aux" not in network.boundaries


def test_googlenet_has_two_auxiliary_classifiers() -> None:
    network = small_network("googlenet")
    images = random_images(32)
    with torch.no_grad():
        network.train()
        torch.manual_seed(1)
        library = network.model(images)
        torch.manual_seed(1)
        logits, aux = network.captured(images, BRANCHES)
        features, first = network.captured(images, BRANCHES, stop="aux2")
    # dropout of the auxiliary classifiers draws before the head's: the same order as the library's
    assert torch.equal(logits, library.logits)
    assert torch.equal(aux["aux1"], library.aux_logits1)
    assert torch.equal(aux["aux2"], library.aux_logits2)
    assert len(first) == 1
    assert features.ndim == 4


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_half_normalisation_replaces_transform_input(name: str) -> None:
    """The library takes ImageNet-normalised images and rescales them; we normalise so at once."""
    network = small_network(name).eval()
    library = get_model(name, num_classes=CLASSES, init_weights=False, transform_input=True)
    library.load_state_dict(network.model.state_dict())
    library.eval()
    images = random_images(SMALL[name]).sigmoid()
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        ours = network((images - 0.5) / 0.5)
        theirs = library((images - mean) / std)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_addresses() -> None:
    network = small_network("resnet18")
    assert network.address_of("layer4.0.bn1.weight") == "layer4/0.bn1.weight"
    assert network.address_of("layer4.0.bn1") == "layer4/0.bn1"
    assert network.address_of("conv1.weight") == "stem/conv1.weight"
    assert network.address_of("fc.bias") == "head/fc.bias"
    norms = dict(network.norm_layers())
    assert len(norms) == 20
    assert norms["layer1/0.bn1"] is network.model.get_submodule("layer1.0.bn1")


def test_layer_norm_keeps_no_statistics() -> None:
    assert list(small_network("swin_t").norm_layers()) == []


def test_modules_of_groups_cover_what_behaves_differently_in_training() -> None:
    for name in ("efficientnet_b0", "swin_t"):
        network = small_network(name).train()
        for group in network.groups:
            for module in network.modules_of(group):
                module.eval()
        training = {type(module) for module in network.modules() if module.training}
        behaving = {nn.Dropout, nn.BatchNorm2d, nn.MultiheadAttention}
        assert not any(kind in behaving or "StochasticDepth" in kind.__name__ for kind in training)


def test_copies_are_independent() -> None:
    network = small_network("shufflenet_v2_x0_5").eval()
    images = random_images(32)
    with torch.no_grad():
        before = network(images)
        copied = pickle.loads(pickle.dumps(copy.deepcopy(network)))
        assert torch.equal(copied(images), before)
        for parameter in network.parameters():
            parameter.zero_()
        assert torch.equal(copied(images), before)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4, bias=False)
        self.head = nn.Linear(4, 4, bias=False)
        self.head.weight = self.body.weight


def test_saved_state_loads_into_the_library(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    network = small_network("resnet18").to(memory_format=torch.channels_last).eval()
    path = save_tensors(network.model.state_dict(), tmp_path / "new" / "state.safetensors")
    plain = get_model("resnet18", num_classes=CLASSES).eval()
    plain.load_state_dict(load_file(path))
    images = random_images(32)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), network(images))
    assert [file.name for file in path.parent.iterdir()] == ["state.safetensors"]


def test_shared_tensors_are_saved_under_each_name(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    saved = load_file(save_tensors(Tied().state_dict(), tmp_path / "tied.safetensors"))
    assert torch.equal(saved["body.weight"], saved["head.weight"])


def make(groups: tuple[LayerGroup, ...]) -> Network:
    return Network(Tied(), groups, image_size=8)


def test_every_parameter_must_be_in_one_group() -> None:
    head = layer_group("head", "head")
    with pytest.raises(AssertionError, match=r"must belong to one layer group, got \[\]"):
        make((head,))
    with pytest.raises(AssertionError, match=r"got \['a', 'b'\]"):
        make((layer_group("a", "body"), layer_group("b", "body"), head))
    with pytest.raises(AssertionError, match="last layer group must be the head"):
        make((head, layer_group("a", "body")))


def test_cuts_are_only_possible_at_boundaries() -> None:
    network = small_network("resnet18")
    for name in ("stem", "nowhere"):
        with pytest.raises(AssertionError, match="no boundary"):
            network(random_images(32), stop=name)
