"""Zero-shot and what starts there, from a suite to a loaded model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bench
from bench.errors import SuiteError
from bench.execution.executors import InProcessExecutor
from bench.execution.jobs import cut
from bench.models.checkpoints import read_checkpoint
from bench.runs.catalogue import catalogue
from bench.runs.resolve import resolve_run
from bench.suite import Entry
from bench.training.fitted import fit_head
from bench.training.loop import trainable_parameters
from tests.texts import text_backbone
from tests.tiny import entry, make_job, make_trial, tiny_training
from tests.tiny_clip import FEATURES, clip_backbone

pytest.importorskip("open_clip")

FEW = {"train_per_class": 6, "val_per_class": 4, "test_per_class": 4}


def trial(strategy: str, **options: Any) -> Any:
    return make_trial(
        strategy,
        options=options,
        backbone=clip_backbone(),
        augmentation="none",
        data=FEW,
        head=Entry(name="fitted"),
        weights=Entry(name="pretrained"),
    )


def same_alone_and_among(own: Any, others: Sequence[Any], folder: Path) -> Iterable[str]:
    """Asserts that predictions and checkpoint are, to the bit; names its tensors."""
    alone = make_job(own, trial_id="alone", checkpoint=folder / "alone.safetensors")
    again = make_job(own, trial_id="again", checkpoint=folder / "again.safetensors")
    beside = [make_job(each, trial_id=str(number)) for number, each in enumerate(others)]
    (first,) = InProcessExecutor().run(cut([alone], reuse=False), lambda _: None)
    results = InProcessExecutor().run(cut([*beside, again], reuse=True), lambda _: None)
    second = {each.trial_id: each for each in results}["again"]
    assert (first.error, second.error) == (None, None)
    assert first.predictions is not None
    assert second.predictions is not None
    assert (first.predictions.probabilities == second.predictions.probabilities).all()
    one, two = (read_checkpoint(folder / f"{name}.safetensors") for name in ("alone", "again"))
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)
    one.network(first.predictions.classes)
    return one.tensors


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("zero_shot", {}),
        pytest.param("tip_adapter", {"train": 2, "alpha": 1.0}, marks=pytest.mark.campaign),
        pytest.param("coop", {"train": 1, "context": 4}, marks=pytest.mark.campaign),
    ],
)
def test_a_checkpoint_gives_what_was_predicted_alone_and_among_others(
    strategy: str, options: dict[str, Any], tmp_path: Path
) -> None:
    other = trial("zero_shot", templates=["{}"])
    names = same_alone_and_among(trial(strategy, **options), [other], tmp_path)
    assert {name.split(".")[0] for name in names} == {"classifier"}


WISE: dict[str, Any] = {"templates": ["a drawing of a {}."]}
WORDS: dict[str, Any] = {"templates": ["a {}", "two {}"], "prompts": {"class1": ["an ant"]}}


def starting(strategy: str, *, words: dict[str, Any] = WORDS, **settings: Any) -> Any:
    """A trial whose head starts at texts."""
    return make_trial(
        strategy,
        backbone=clip_backbone(),
        augmentation="none",
        data=FEW,
        head=entry(catalogue().head, "zero_shot", **words),
        weights=Entry(name="pretrained"),
        **settings,
    )


@pytest.mark.parametrize("strategy", ["linear_probe", "lora"])
def test_a_head_that_starts_at_texts_is_zero_shot_before_the_first_step(strategy: str) -> None:
    own = make_job(starting(strategy))
    found = tiny_training(starting(strategy))
    found.load({})
    zero = tiny_training(trial("zero_shot", **WORDS))
    zero.load(fit_head(zero).tensors)
    images = found.central.batch(found.splits.test, 0)
    found.network.eval()
    zero.network.eval()
    with torch.no_grad():
        logits, wanted = found.network(images), zero.network(images)
    scale = float(found.network.model.text_tower().scale)
    assert (logits - wanted).abs().max() <= 1e-6 * scale
    assert wanted.std() > 1e-3
    head = FEATURES * 2 + 2
    trainable = trainable_parameters(found.network, own.plan)
    assert trainable == head if strategy == "linear_probe" else trainable > head


@pytest.mark.parametrize(
    "strategy",
    [
        "linear_probe",
        pytest.param("lp_ft", marks=pytest.mark.campaign),
        pytest.param("full_finetune", marks=pytest.mark.campaign),
        pytest.param("lora", marks=pytest.mark.campaign),
    ],
)
def test_what_starts_at_texts_is_the_same_alone_and_among_others(
    strategy: str, tmp_path: Path
) -> None:
    others = (
        starting(strategy, words={}),
        starting(strategy, seed=1),
        starting(strategy, epochs=3),
    )
    same_alone_and_among(starting(strategy), others, tmp_path)


def test_keys_know_the_texts_of_heads() -> None:
    trials = (
        starting("linear_probe"),
        starting("linear_probe", words={}),
        starting("linear_probe", words={"names": {"class0": "ant"}}),
        trial_of_random_head(),
    )
    assert len({make_job(each).keys for each in trials}) == len(trials)


def trial_of_random_head() -> Any:
    own = starting("linear_probe")
    head = entry(catalogue().head, "linear")
    return own.model_copy(update={"settings": own.settings.model_copy(update={"head": head})})


def test_keys_know_the_texts() -> None:
    trials = (
        trial("zero_shot"),
        trial("zero_shot", templates=["a drawing of a {}."]),
        trial("zero_shot", names={"class0": "ant"}),
        trial("zero_shot", prompts={"class0": ["an ant"]}),
    )
    assert len({make_job(each).keys for each in trials}) == len(trials)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"backbone": "resnet18", "weights": "fractals"},
            r"needs an image–text model \(clip/NAME\)",
        ),
        ({"weights": "none"}, "random weights know neither"),
        ({"strategy": {"name": "zero_shot", "templates": ["a photo"]}}, r"must have \{\} once"),
        (
            {"strategy": {"name": "zero_shot", "names": {"fractal_0": "x"}}},
            "names: the data set has no class",
        ),
        (
            {
                "strategy": "full_finetune",
                "head": "zero_shot",
                "backbone": "resnet18",
                "weights": "fractals",
            },
            r"head 'zero_shot' starts at texts of classes and needs an image–text model",
        ),
        (
            {"strategy": "from_scratch", "head": "zero_shot", "weights": "none"},
            "weights 'none' do not know",
        ),
        (
            {
                "strategy": "linear_probe",
                "head": {"name": "zero_shot", "prompts": {"ants": ["x"]}},
            },
            "prompts: the data set has no class",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    suite = {
        "name": "words",
        "dataset": {"name": "fractals", "classes": 2, "image_size": 32, **FEW},
        "backbone": clip_backbone(),
        "strategy": "zero_shot",
        "seed": 0,
        **changes,
    }
    with pytest.raises(SuiteError, match=message):
        resolve_run(suite, out=tmp_path, device="cpu")


@pytest.mark.campaign
@pytest.mark.usefixtures("no_report")
def test_all_that_images_have_works_on_the_image_tower(tmp_path: Path) -> None:
    suite = {
        "name": "towers",
        "dataset": {"name": "fractals", "classes": 2, "image_size": 32, **FEW},
        "backbone": clip_backbone(),
        "strategy": ["zero_shot", "linear_probe", "lora", "vpt", "adaptformer", "linear_sweep"],
        "precision": "fp32",
        "epochs": 1,
        "seed": 0,
    }
    run = bench.run(suite, out=tmp_path, device="cpu")
    assert set(run.trials["status"]) == {"complete"}


@pytest.mark.campaign
@pytest.mark.usefixtures("no_report")
def test_the_ends_of_wise_ft_are_zero_shot_and_what_started_there(tmp_path: Path) -> None:
    suite = {
        "name": "ends",
        "dataset": {"name": "fractals", "classes": 2, "image_size": 32, **FEW},
        "backbone": clip_backbone(),
        "strategy": [{"name": "zero_shot", **WISE}, "linear_probe", "lora"],
        "head": {"name": "zero_shot", **WISE},
        "after": [{"name": "wise_ft", "alphas": [0.0]}, {"name": "wise_ft", "alphas": [1.0]}],
        "precision": "fp32",
        "epochs": 1,
        "lr": 0.01,
        "seed": 0,
    }
    run = bench.run(suite, out=tmp_path, device="cpu")
    trials = run.trials.set_index("trial")
    (zero,) = trials.index[trials["strategy"].str.startswith("zero_shot")]
    made = run.children[run.children["status"] == "complete"]
    assert len(made) == 4

    def probabilities(of: str) -> np.ndarray:
        own = run.predictions if of in trials.index else run.child_predictions
        rows = own[own["trial"] == of].set_index("sample").filter(like="probability_")
        return rows.sort_index().to_numpy()

    for row in made.to_dict("records"):
        found = probabilities(row["child"])
        if row["name"].endswith("(1.0,))"):
            assert (found == probabilities(row["base"])).all()
        else:
            assert np.abs(found - probabilities(zero)).max() < 1e-6
            assert np.abs(found - probabilities(row["base"])).max() > 1e-6


@pytest.mark.campaign
def test_text_encoders_compare_texts_with_descriptions(tmp_path: Path) -> None:
    own = make_trial(
        "zero_shot",
        options={"templates": ["w1 {}"], "prompts": {"class1": ["w21 w22", "w30"]}},
        backbone=text_backbone(),
        augmentation="none",
        head=Entry(name="fitted"),
    )
    job = make_job(own, checkpoint=tmp_path / "kept.safetensors")
    (result,) = InProcessExecutor().run(cut([job], reuse=False), lambda _: None)
    assert result.error is None
    held = read_checkpoint(tmp_path / "kept.safetensors").tensors["classifier.directions"]
    assert held.norm(dim=1).tolist() == pytest.approx([1 / 0.07] * 2, rel=1e-5)
