"""Models of transformers as text backbones: groups, pooling, weights, frozen trunks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data.text.tokens import tokenise
from bench.errors import BenchError, WeightsError
from bench.methods.plan import HEAD
from bench.models import (
    Network,
    build_network,
    describe_weights,
    layer_group_names,
    obtain_weights,
    with_pooling,
)
from bench.models.evaluation import Trunk
from bench.runs.resolve import resolve_run
from bench.suite import Entry
from bench.system.token_rows import PADDING, SHARE_ONE
from tests.texts import WIDTH, bert_folder, sentences, small_model, tokenizer, with_config

transformers = pytest.importorskip("transformers")

PRETRAINED = Entry(name="pretrained")
ENCODERS = ("bert", "roberta", "distilbert", "electra", "deberta-v2", "modernbert", "mpnet")
KINDS = (*ENCODERS, "albert", "gpt2", "llama")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_folder(tmp_path_factory.mktemp("bert"))


def network_of(backbone: str, pooling: str = "auto") -> Network:
    weights = with_pooling(backbone, obtain_weights(backbone, PRETRAINED), pooling)
    network = build_network(
        backbone, weights=weights, head=Entry(name="linear"), num_classes=2, seed=0
    )
    return network.eval()


def folder_of(kind: str, folder: Path) -> Path:
    small_model(kind).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer())
    return folder


def tokens(count: int = 40, length: int = 40) -> Tensor:
    return torch.from_numpy(tokenise(sentences(count).texts, tokenizer(), length=length).ids)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_what_transformers_gives_of_the_text_alone(
    kind: str, tmp_path: Path
) -> None:
    network = network_of(f"hf/{folder_of(kind, tmp_path)}", "mean")
    names = [group.name for group in network.groups]
    # ALBERT's blocks share their values.
    blocks = ["block1"] if kind == "albert" else ["block1", "block2"]
    assert names[0] == "embeddings"
    assert [name for name in names if name not in ("embeddings", "norm", HEAD)] == blocks
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    rows = tokens(6)
    with torch.no_grad():
        found = network(rows, stop=HEAD)
        for row, own in zip(rows, found, strict=True):
            ids = row[row >= 0].long()[None]
            states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            torch.testing.assert_close(states[0].mean(dim=0), own, rtol=1e-4, atol=1e-5)


def test_decoders_pool_the_last_token_and_encoders_the_first(tmp_path: Path, folder: Path) -> None:
    decoder = network_of(f"hf/{folder_of('gpt2', tmp_path)}")
    encoder = network_of(f"hf/{folder}")
    assert (decoder.model.pooling, encoder.model.pooling) == ("last", "cls")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    assert network_of(f"hf/{tmp_path}").model.pooling == "mean"


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_one_vector_of_those_of_a_texts_tokens(pooling: str, folder: Path) -> None:
    network, rows = network_of(f"hf/{folder}", pooling), tokens(5)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        found = network(rows, stop=HEAD)
        for row, own in zip(rows, found, strict=True):
            states = model(input_ids=row[row >= 0].long()[None]).last_hidden_state[0]
            wanted = {"cls": states[0], "mean": states.mean(dim=0), "last": states[-1]}
            torch.testing.assert_close(own, wanted[pooling], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_frozen_trunk_makes_of_a_text_does_not_depend_on_others(
    precision: str, folder: Path
) -> None:
    rows = tokens(60)
    draw = np.random.default_rng(0)
    trunk = Trunk(network_of(f"hf/{folder}"), HEAD, precision=precision, parallel_batches=1)
    together = torch.cat(list(trunk([rows])))
    assert together.shape == (60, WIDTH)
    for at in range(0, 60, 7):
        assert torch.equal(torch.cat(list(trunk([rows[at : at + 1]])))[0], together[at])
    for _ in range(5):
        some = torch.from_numpy(draw.permutation(60)[: draw.integers(2, 50)])
        assert torch.equal(torch.cat(list(trunk([rows[some]]))), together[some])
    several = Trunk(network_of(f"hf/{folder}"), HEAD, precision=precision, parallel_batches=2)
    assert torch.equal(torch.cat(list(several([rows]))), together)


def test_columns_that_are_padding_change_nothing_beyond_rounding(folder: Path) -> None:
    network, rows = network_of(f"hf/{folder}", "mean"), tokens(8, 32)
    wider = torch.cat([rows, torch.full((8, 16), PADDING, dtype=torch.int32)], dim=1)
    with torch.no_grad():
        assert torch.equal(network(rows), network(wider))


def test_a_text_without_tokens_has_finite_features(folder: Path) -> None:
    rows = torch.full((2, 8), PADDING, dtype=torch.int32)
    for pooling in ("cls", "mean", "last"):
        assert torch.isfinite(network_of(f"hf/{folder}", pooling)(rows)).all()


def test_a_mixture_lies_between_its_two_texts(folder: Path) -> None:
    network, rows = network_of(f"hf/{folder}", "mean"), tokens(8)
    pairs = [rows, rows.roll(1, 0)]
    for share, alone in ((SHARE_ONE, rows[:1]), (0, rows[-1:])):
        mixed = torch.stack([*pairs, torch.full_like(rows, share)], dim=1)
        short = mixed[:1].clone()
        # Beside a longer text a shorter one has padding that counts.
        short[:, 0] = short[:, 1] = alone
        with torch.no_grad():
            torch.testing.assert_close(network(short), network(alone))
    trunk = Trunk(network, HEAD, precision="fp32", parallel_batches=1)
    halves = torch.stack([*pairs, torch.full_like(rows, SHARE_ONE // 2)], dim=1)
    swapped = torch.stack([*pairs[::-1], torch.full_like(rows, SHARE_ONE // 2)], dim=1)
    one, other = (torch.cat(list(trunk([batch]))) for batch in (halves, swapped))
    torch.testing.assert_close(one, other)


def test_random_values_depend_on_the_seed_alone(folder: Path) -> None:
    def values(seed: int, classes: int) -> Tensor:
        weights = describe_weights(f"hf/{folder}", Entry(name="none"))
        network = build_network(
            f"hf/{folder}",
            weights=weights,
            head=Entry(name="linear"),
            num_classes=classes,
            seed=seed,
        )
        return network.model.body.encoder.layer[1].output.dense.weight

    assert torch.equal(values(0, 2), values(0, 5))
    assert not torch.equal(values(0, 2), values(1, 2))


def test_group_names_are_told_without_values(folder: Path) -> None:
    names = layer_group_names(f"hf/{folder}")
    assert list(names) == ["embeddings", "block1", "block2", HEAD]


# Folders of others ------------------------------------------------------------------------------


def told_of(backbone: str) -> str:
    with pytest.raises(BenchError) as caught:
        network_of(backbone)
    return str(caught.value)


def test_code_of_others_is_never_run(tmp_path: Path) -> None:
    bert_folder(tmp_path)
    with_config(tmp_path, model_type="mine", auto_map={"AutoModel": "evil.Model"})
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    assert "code that comes with weights is never run" in told_of(f"hf/{tmp_path}")


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    bert_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    assert "pickled objects, which could run code" in told_of(f"hf/{tmp_path}")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "config.json").write_text("[]"), "must hold an object"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be read"),
        (lambda folder: with_config(folder, num_hidden_layers=3), "tensors are missing"),
        (lambda folder: with_config(folder, hidden_size=24), "of another shape"),
    ],
    ids=["config", "tokenizer", "too few tensors", "other shapes"],
)
def test_damaged_folders_are_told(spoil: Any, told: str, tmp_path: Path) -> None:
    spoil(bert_folder(tmp_path))
    assert told in told_of(f"hf/{tmp_path}")


def test_what_is_no_folder_of_a_model_is_told(tmp_path: Path) -> None:
    assert "it has no config.json" in told_of(f"hf/{tmp_path}")
    with pytest.raises(WeightsError, match="must be one of pretrained, none"):
        describe_weights(f"hf/{bert_folder(tmp_path / 'bert')}", Entry(name="imagenet"))


def test_other_content_is_another_fingerprint(tmp_path: Path) -> None:
    backbone = f"hf/{bert_folder(tmp_path)}"
    before = describe_weights(backbone, PRETRAINED)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "truncation": None}))
    assert describe_weights(backbone, PRETRAINED).fingerprint == before.fingerprint
    path.write_text(path.read_text().replace("lovely", "lively"))
    assert describe_weights(backbone, PRETRAINED).fingerprint != before.fingerprint


def test_ids_know_the_tokenizer_beside_weights_of_ones_own(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path)
    suite = {
        "name": "own",
        "dataset": {
            "name": "text",
            "lists": {"text": ["so good", "so bad"] * 8, "label": [1, 0] * 8},
        },
        "backbone": f"hf/{folder}",
        "weights": {"file": str(folder / "model.safetensors")},
        "strategy": "linear_probe",
        "precision": "fp32",
        "seed": [0],
    }

    def trial() -> str:
        (resolved,) = resolve_run(suite, out=tmp_path / "out", device="cpu").trials
        return resolved.id

    before = trial()
    assert trial() == before
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("lovely", "lively"))
    assert trial() != before
