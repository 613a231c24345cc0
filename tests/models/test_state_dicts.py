"""Weights files: nothing in them is executed, and what does not fit is named."""

from __future__ import annotations

import pickle
import random
import re
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import DenseNet, VisionTransformer

from bench.errors import WeightsError
from bench.models import Network, Weights, check_fit, describe_weights
from bench.models.state_dicts import WRAPPER_KEYS, load_weights, read_state_dict
from bench.suite import Entry
from tests.hostile import mutated_bytes
from tests.models.small import small_network

BACKBONE = "shufflenet_v2_x0_5"

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """A trained network's: five classes, another seed than the networks that load it."""
    return dict(small_network(BACKBONE, seed=99, num_classes=5).model.state_dict())


def saved(content: Any, path: Path) -> Weights:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return describe_weights(BACKBONE, Entry(name="file", options={"path": str(path)}))


def load(content: Any, path: Path) -> Network:
    return small_network(BACKBONE, weights=saved(content, path))


def assert_trunk_equals(network: Network, state: State) -> None:
    fresh = small_network(BACKBONE).model.state_dict()
    for name, tensor in network.model.state_dict().items():
        assert torch.equal(tensor, (fresh if name.startswith("fc.") else state)[name]), name


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
def test_formats(state: State, suffix: str, tmp_path: Path) -> None:
    assert_trunk_equals(load(state, tmp_path / f"weights{suffix}"), state)


@pytest.mark.parametrize("key", WRAPPER_KEYS)
def test_wrapped(state: State, key: str, tmp_path: Path) -> None:
    content = {"epoch": torch.tensor(3), key: state, "optimizer": {"state": {0: torch.ones(2)}}}
    assert_trunk_equals(load(content, tmp_path / "checkpoint.pth"), state)


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "backbone.", "_orig_mod.", "module.model."]
)
def test_prefixes(state: State, prefix: str, tmp_path: Path) -> None:
    content = OrderedDict((prefix + name, tensor) for name, tensor in state.items())
    assert_trunk_equals(load(content, tmp_path / "weights.pth"), state)


def test_half_precision_and_missing_counters(state: State, tmp_path: Path) -> None:
    content = {
        name: tensor.half()
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    network = load(content, tmp_path / "weights.pth")
    weight = network.model.get_parameter("conv1.0.weight")
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight.detach(), state["conv1.0.weight"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("extra", ["fc.0.weight", "fc.3.bias", None])
def test_another_classifier_is_left_out(state: State, extra: str | None, tmp_path: Path) -> None:
    content = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    if extra is not None:
        content[extra] = torch.full((4,), torch.nan)
    assert_trunk_equals(load(content, tmp_path / "weights.pth"), state)


class Malicious:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.touched,))


@pytest.mark.parametrize("nested", [False, True])
def test_pickled_code_is_not_executed(state: State, nested: bool, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    attack: Any = Malicious(touched)
    path = tmp_path / "evil.pth"
    with pytest.raises(WeightsError, match=r"evil\.pth: it holds pickled objects .*state_dict\(\)"):
        load({"state_dict": state, "extra": attack} if nested else attack, path)
    path.write_bytes(pickle.dumps(attack))
    with pytest.raises(WeightsError, match=r"evil\.pth"):
        read_state_dict(path)
    assert not touched.exists()
    pickle.loads(path.read_bytes())  # it is a working attack
    assert touched.exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="pickled objects other than tensors"):
        load(nn.Linear(2, 2), tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04" + b"\0" * 99])
def test_damaged_files(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"cannot read the weights file .*{name}"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2), {"epoch": 3}, {}])
def test_files_without_a_state_dict(content: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no state dict"):
        load(content, tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"<!DOCTYPE html><html>404</html>", "a page of HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "an HDF5 file, as Keras writes"),
        (b"\x1f\x8b\x08\0" + b"\0" * 40, "a gzip archive, which must be unpacked"),
        (b"epoch,loss\n1,0.5\n", "neither (it begins with b'epoch,loss"),
        (b"", "it is empty"),
    ],
)
def test_files_of_another_kind_are_called_what_they_are(
    content: bytes, named: str, tmp_path: Path
) -> None:
    """The unpickler's own words for them are such as `KeyError: 101`."""
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(named)):
        read_state_dict(path)


def test_safetensors_are_read_under_any_name(state: State, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    save_file(state, path)
    read = read_state_dict(path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


def test_the_old_form_of_torch_save_is_read(state: State, tmp_path: Path) -> None:
    path = tmp_path / "old.pth.tar"
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)
    assert read_state_dict(path).keys() == state.keys()


def test_a_check_without_values_finds_what_loading_finds(state: State, tmp_path: Path) -> None:
    """`bench plan` compares with a network that has no values."""
    fitting = saved(state, tmp_path / "fits.pth")
    check_fit(BACKBONE, fitting, image_size=32, with_classifiers=False)
    for changed in (
        {**state, "conv1.0.weight": torch.ones(2, 3)},
        {**state, "conv1.0.weight": torch.full((24, 3, 3, 3), torch.nan)},
        {**state, "stranger": torch.ones(1)},
    ):
        weights = saved(changed, tmp_path / "weights.pth")
        with pytest.raises(WeightsError) as planned:
            check_fit(BACKBONE, weights, image_size=32, with_classifiers=False)
        with pytest.raises(WeightsError) as loaded:
            small_network(BACKBONE, weights=weights)
        assert str(planned.value) == str(loaded.value)


def test_classes_must_be_those_of_the_classifier_in_the_file(state: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    for names, fits in ((("a", "b", "c", "d", "e"), True), (("a", "b"), False)):
        entry = Entry(name="file", options={"path": str(path), "classes": names})
        weights = describe_weights(BACKBONE, entry)
        assert weights.classes == names
        if fits:
            check_fit(BACKBONE, weights, image_size=32, with_classifiers=True)
            continue
        with pytest.raises(WeightsError, match=r"fc\.weight .*classes names 2 outputs"):
            check_fit(BACKBONE, weights, image_size=32, with_classifiers=True)


def test_missing_file(tmp_path: Path) -> None:
    entry = Entry(name="file", options={"path": str(tmp_path / "none.pth")})
    with pytest.raises(WeightsError, match=r"not found: .*none\.pth"):
        describe_weights(BACKBONE, entry)
    with pytest.raises(WeightsError, match="not found"):
        read_state_dict(tmp_path / "none.pth")


def test_what_does_not_fit_is_named(state: State, tmp_path: Path) -> None:
    content = {name: tensor for name, tensor in state.items() if not name.startswith("stage2.0")}
    content["conv1.0.weight"] = torch.ones(2, 3)
    content["stranger"] = torch.ones(1)
    with pytest.raises(WeightsError) as raised:
        load(content, tmp_path / "weights.pth")
    message = str(raised.value)
    assert "missing (25): stage2.0.branch1.0.weight, " in message
    assert "and 20 more; unexpected (1): stranger; wrong shape (1): conv1.0.weight" in message
    assert "(file [2, 3], backbone [24, 3, 3, 3])" in message


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no parameter in common .* it has some\.weight, the"):
        load({"some.weight": torch.ones(2)}, tmp_path / "weights.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(state: State, value: float, tmp_path: Path) -> None:
    content = {**state, "conv1.0.weight": state["conv1.0.weight"].clone()}
    content["conv1.0.weight"][0, 0, 0, 0] = value
    with pytest.raises(WeightsError, match=r"not finite .*: conv1\.0\.weight"):
        load(content, tmp_path / "weights.pth")


def tiny_vit(image_size: int) -> VisionTransformer:
    return VisionTransformer(image_size, 16, 2, 2, hidden_dim=8, mlp_dim=16, num_classes=3)


def load_all(model: nn.Module, state: State) -> None:
    load_weights(model, state, origin="file", classifiers=(), with_classifiers=True)


def assert_loads_renamed(source: nn.Module, model: nn.Module, *renames: tuple[str, str]) -> None:
    expected = source.state_dict()
    renamed = {}
    for name, tensor in expected.items():
        new = re.sub(*renames[0], name)
        renamed[re.sub(*renames[1], new)] = tensor
    assert len(expected.keys() - renamed.keys()) >= 8
    load_all(model, renamed)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_names_in_published_files() -> None:
    """DenseNet and ViT files were published under names that the library renames on loading."""
    densenets = [DenseNet(4, (1, 1, 1, 1), 8, num_classes=3) for _ in range(2)]
    layers = (r"(denselayer.*norm|denselayer.*conv)([12])\.", r"\1.\2.")
    assert_loads_renamed(*densenets, layers, ("", ""))
    mlp = (r"\.mlp\.0\.", ".mlp.linear_1."), (r"\.mlp\.3\.", ".mlp.linear_2.")
    assert_loads_renamed(tiny_vit(32), tiny_vit(32), *mlp)


def test_position_embeddings_are_interpolated() -> None:
    source, model = tiny_vit(32).eval(), tiny_vit(48).eval()
    load_all(model, source.state_dict())
    before, after = source.encoder.pos_embedding, model.encoder.pos_embedding
    assert (before.shape, after.shape) == ((1, 5, 8), (1, 10, 8))
    # with aligned corners the corners of the grid keep their values, as does the class token
    torch.testing.assert_close(after[0, [0, 1, 3, 7, 9]], before[0])


def test_position_embeddings_of_another_kind_are_refused() -> None:
    state = tiny_vit(32).state_dict()
    state["encoder.pos_embedding"] = torch.ones(1, 4, 8)  # no square grid and a class token
    with pytest.raises(WeightsError, match=r"wrong shape \(1\): encoder\.pos_embedding"):
        load_all(tiny_vit(48), state)


def test_auxiliary_classifier_may_be_absent(tmp_path: Path) -> None:
    source = small_network("googlenet", seed=99).model.state_dict()
    content = {name: tensor for name, tensor in source.items() if not name.startswith("aux")}
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    entry = Entry(name="file", options={"path": str(path)})
    network = small_network("googlenet", weights=describe_weights("googlenet", entry))
    assert torch.equal(
        network.model.state_dict()["inception5b.branch1.conv.weight"],
        source["inception5b.branch1.conv.weight"],
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.uint8])
def test_values_of_another_kind(state: State, dtype: torch.dtype, tmp_path: Path) -> None:
    content = {**state, "conv1.0.weight": torch.ones(24, 3, 3, 3).to(dtype)}
    with pytest.raises(WeightsError, match=r"another type: conv1\.0\.weight \(file .*backbone flo"):
        load(content, tmp_path / "weights.pth")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float8_e4m3fn])
def test_floats_of_other_sizes(state: State, dtype: torch.dtype, tmp_path: Path) -> None:
    content = {**state, "conv1.0.weight": torch.full((24, 3, 3, 3), 0.5).to(dtype)}
    network = load(content, tmp_path / "weights.pth")
    assert (network.model.get_parameter("conv1.0.weight") == 0.5).all()


def test_a_double_that_no_single_can_hold(state: State, tmp_path: Path) -> None:
    content = {**state, "conv1.0.weight": torch.full((24, 3, 3, 3), 1e300, dtype=torch.float64)}
    with pytest.raises(WeightsError, match="not finite"):
        load(content, tmp_path / "weights.pth")


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize("kind", ["sparse", "meta", "quantised"])
def test_tensors_that_are_none(state: State, kind: str, tmp_path: Path) -> None:
    plain = torch.ones(24, 3, 3, 3)
    tensor = {
        "sparse": lambda: plain.to_sparse(),
        "meta": lambda: plain.to("meta"),
        "quantised": lambda: torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8),
    }[kind]()
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        load({**state, "conv1.0.weight": tensor}, tmp_path / "weights.pth")


def test_a_tensor_that_claims_to_be_endless(state: State, tmp_path: Path) -> None:
    """One stored number, seen as a tensor of four exabytes."""
    content = {**state, "conv1.0.weight": torch.ones(1).expand(10**6, 10**12)}
    with pytest.raises(WeightsError, match="wrong shape"):
        load(content, tmp_path / "weights.pth")
    embeddings = tiny_vit(32).state_dict()
    embeddings["encoder.pos_embedding"] = torch.ones(1).expand(1, 10**12 + 1, 8)
    with pytest.raises(WeightsError, match="wrong shape"):
        load_all(tiny_vit(48), embeddings)


def test_wrappers_within_themselves(tmp_path: Path) -> None:
    content: dict[str, Any] = {"epoch": 1}
    content["model"] = content
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        read_state_dict(tmp_path / "weights.pth")
    many: dict[str, Any] = {}
    for _ in range(40):
        many = dict.fromkeys(WRAPPER_KEYS, many)
    torch.save(many, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        read_state_dict(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,99999]}}',
        b'{"a":{"dtype":"F32","shape":[99999,99999],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"X9","shape":[2,2],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[16,0]}}',
        b'{"a":1}',
        b"[" * 10_000,
        b"",
    ],
)
def test_safetensors_with_a_lying_header(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for length in (len(header), 2**63, 0):
        path.write_bytes(length.to_bytes(8, "little") + header + bytes(16))
        with pytest.raises(WeightsError, match=r"cannot read the weights|no state dict"):
            read_state_dict(path)


@settings(
    max_examples=80, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(rng=st.randoms(use_true_random=False), suffix=st.sampled_from([".safetensors", ".pth"]))
def test_fuzzed_files(rng: random.Random, suffix: str, tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    path.write_bytes(mutated_bytes(path.read_bytes(), rng))
    with suppress(WeightsError):
        load_all(model, read_state_dict(path))
