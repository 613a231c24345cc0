"""The model card of an exported file: what it is of, how good it is, and where that ends.

After Mitchell et al., Model Cards for Model Reporting, 2019. One description, written as JSON for
programs and as Markdown for people.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.methods.target_tasks import MULTI_LABEL, REGRESSION
from bench.models.weights import FILE, NONE
from bench.prediction.export.check import LOGIT_TOLERANCE, PROBABILITY_TOLERANCE
from bench.prediction.export.formats import TOKENIZER_FILE
from bench.prediction.export.held_out import test_rows
from bench.prediction.export.reading import Reading
from bench.results.analysis import mean_interval, trial_scores
from bench.results.analysis.by_class import share_interval
from bench.results.analysis.by_output import (
    LabelFigures,
    TargetFigures,
    label_figures,
    shown_of,
    target_figures,
)
from bench.results.folder.columns import FINITE, FRACTION, TASK_METRICS
from bench.results.grid import complete_trials, is_missing, spread
from bench.results.metric import Metric
from bench.results.report.markup import fence, table, text
from bench.results.sample_words import words_of
from bench.system.token_rows import PADDING
from bench.system.visible_text import visible

if TYPE_CHECKING:
    from bench.data.dataset import InputKind
    from bench.models.checkpoints import ModelSpec
    from bench.prediction.choice import Chosen
    from bench.prediction.export.check import Check
    from bench.prediction.export.formats import Format, Wish
    from bench.prediction.model import TrainedModel
    from bench.results.folder import Run

FORMAT = 1
UNKNOWN_LICENCE = "unknown"
TRAINING = (
    "strategy", "weights", "head", "schedule", "augmentation", "optimizer", "lr", "batch_size",
    "epochs", "best_epoch", "seed", "fold", "precision", "device", "trainable_params",
    "total_params", "train_seconds",
)  # fmt: skip
"""Columns of the table of trials that say how it was trained."""


def describe(
    run: Run,
    model: TrainedModel,
    *,
    file: Format,
    wish: Wish,
    files: Mapping[str, int],
    check: Check,
    code: str,
) -> dict[str, Any]:
    """The card as plain values; `files` are names and bytes, `code` is what the check has run."""
    chosen, spec = model.chosen, model.spec
    return {
        "format": FORMAT,
        "title": f"{spec.backbone}: {visible(str(run.data.get('dataset', '')))}",
        "trial": {"id": chosen.id, "label": chosen.label, "why": chosen.why},
        "file": {
            "name": file.file,
            "format": file.name,
            "dtype": wish.dtype,
            "files": dict(files),
            "runtime": check.runtime,
            "input": _input(model, wish),
            "output": _output(model),
        },
        "classes": list(model.classes),
        "outputs": _outputs(model),
        "preprocessing": {"where": wish.place, **_preprocessing(model)},
        "data": _data(run),
        "metrics": list(_metrics(run, chosen)),
        "by_class": list(_by_class(run, model)),
        "by_output": _by_output(run, model),
        "training": _training(run, chosen, spec),
        "weights": {
            "name": str(chosen.row["weights"]),
            "licence": licence_of_weights(spec, str(chosen.row["weights"])),
            "file": spec.start,
        },
        "check": {
            **asdict(check),
            "tolerance": LOGIT_TOLERANCE if wish.dtype == "fp32" else PROBABILITY_TOLERANCE,
            "tolerance_of": _compared(model, wish),
        },
        "limits": list(_limits(run, model, wish, check)),
        "code": code,
        "versions": {
            "written by": dict(_versions(model.preprocessing.kind)),
            "trained by": dict(spec.versions),
        },
    }


def to_markdown(card: Mapping[str, Any]) -> str:
    """The card for people."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(  # Markdown: what comes from elsewhere passes through `text`
        autoescape=False, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(
        text=text, fence=fence, percent=_percent, table=_table, mib=_mib, figure=_figure, zip=zip
    )
    template = resources.files("bench.prediction.export").joinpath("card.md.j2")
    return environment.from_string(template.read_text(encoding="utf-8")).render(card)


# Parts ----------------------------------------------------------------------------------------


def _input(model: TrainedModel, wish: Wish) -> str:
    size, form = model.preprocessing.size, model.preprocessing.form
    if model.preprocessing.kind == "vector":
        return f"{wish.input_name}, float32 [batch, {size}]"
    if model.preprocessing.kind == "text":
        return (
            f"{wish.input_name}, int64 [batch, length] of token ids, {PADDING} behind each text; "
            f"at most {size:,} tokens"
        )
    if wish.place == "inside":
        in_rgb = ", RGB" if form.channels is None else ""
        return f"{wish.input_name}, uint8 [batch, height, width, {form.depth}]{in_rgb}, of any size"
    shape = f"[batch, {form.depth}, {size}, {size}]"
    return f"{wish.input_name}, float32 {shape}, as in preprocessing.json"


def _preprocessing(model: TrainedModel) -> dict[str, Any]:
    told = model.preprocessing.described()
    return {**told, "tokenizer": TOKENIZER_FILE} if "tokenizer" in told else told


def _output(model: TrainedModel) -> str:
    count = len(model.classes)
    if model.outputs.task is REGRESSION:
        return f"values, float64 [batch, {count}], in the units of the targets"
    return f"logits, float32 [batch, {count}]"


def _outputs(model: TrainedModel) -> dict[str, Any]:
    """What the outputs are, and how they are read."""
    outputs = model.outputs
    known = outputs.standardised
    return {
        "task": outputs.task.name,
        "one": outputs.task.output,
        "many": "classes" if outputs.task.has_classes else f"{outputs.task.output}s",
        "thresholds": None if outputs.thresholds is None else list(outputs.thresholds),
        "standardised": None if known is None else asdict(known),
        "function": Reading(outputs=outputs).function,
        "compared": Reading(outputs=outputs).compared,
    }


def _compared(model: TrainedModel, wish: Wish) -> str:
    reading = Reading(outputs=model.outputs)
    return reading.function if wish.dtype == "fp32" else reading.compared


def _data(run: Run) -> dict[str, Any]:
    described = run.suite.get("dataset")
    options = {} if not isinstance(described, Mapping) else dict(described)
    words = words_of(run)
    return {
        "name": run.data.get("dataset"),
        "options": {k: v for k, v in options.items() if k != "name" and v is not None},
        "fingerprint": run.data.get("fingerprint"),
        "counts": run.data.get("counts", {}),
        "noticed": [words(issue["message"]) for issue in run.data.get("issues", [])],
        "licence": UNKNOWN_LICENCE,
    }


def _metrics(run: Run, chosen: Chosen) -> Iterator[dict[str, Any]]:
    """Figures of the trial with 95 % intervals over test samples, and over trainings alike."""
    rows = test_rows(run, chosen.id)
    alike = complete_trials(run.trials)
    alike = alike[alike["config"] == chosen.row["config"]]
    for metric in run.metrics:
        value, over_seeds = chosen.row[metric.test], spread(alike[metric.test])
        yield {
            "name": metric.name,
            "label": metric.label,
            "percent": metric.percent,
            "test": None if is_missing(value) else float(value),
            "interval": None if rows.empty else _known(_interval(rows, metric), metric),
            "validation": _plain(chosen.row[metric.val]),
            "trainings": over_seeds.n,
            "mean_of_trainings": _plain(over_seeds.mean),
            "interval_of_trainings": _known(
                mean_interval(alike[metric.test].dropna().to_numpy()), metric
            ),
        }


def _interval(rows: Any, metric: Metric) -> tuple[float, float]:
    """Over samples, or groups of them: Wilson's of shares, else Student's of the samples' scores
    (a jackknife)."""
    if metric.is_accuracy:
        right = (rows["label"] == rows["predicted"]).to_numpy(bool)
        return share_interval(rows, right, np.ones_like(right))
    scored = trial_scores(rows, metric)
    trial = str(rows["trial"].iloc[0])
    scores = None if scored is None else scored.of({0: (trial,)})
    if scores is None:
        return (float("nan"), float("nan"))
    return mean_interval(scores.values[0])


def _by_output(run: Run, model: TrainedModel) -> dict[str, Any] | None:
    """Of each target, or label, what was measured, with intervals over test samples."""
    if model.outputs.task.has_classes or test_rows(run, model.chosen.id).empty:
        return None
    trials = {0: (model.chosen.id,)}
    metrics = [each for each in run.metrics if each.name in shown_of(run.target_task)]
    found: Sequence[TargetFigures | LabelFigures]
    if model.outputs.task is REGRESSION:
        found = target_figures(run.predictions, trials, metrics)
    else:
        found = label_figures(run.predictions, run.trials, trials, metrics)
    return {
        "metrics": [shown_of(run.target_task)[each.name] for each in metrics],
        "percent": [each.percent for each in metrics],
        "rows": [
            {
                "name": each.name,
                "figures": [_plain(own.value) for own in each.figures.values()],
                "intervals": [_known(own.interval, metric) for metric, own in each.figures.items()],
            }
            for each in found
        ],
    }


def _by_class(run: Run, model: TrainedModel) -> Iterator[dict[str, Any]]:
    rows = test_rows(run, model.chosen.id)
    if rows.empty or not model.outputs.task.has_classes:
        return
    for name in model.classes:
        labelled, guessed = (
            (rows[column] == name).to_numpy(bool) for column in ("label", "predicted")
        )
        hits = int((labelled & guessed).sum())
        yield {
            "class": name,
            "samples": int(labelled.sum()),
            "recall": hits / int(labelled.sum()) if labelled.any() else None,
            "recall_interval": _known(share_interval(rows, guessed, labelled)),
            "precision": hits / int(guessed.sum()) if guessed.any() else None,
            "precision_interval": _known(share_interval(rows, labelled, guessed)),
        }


def _training(run: Run, chosen: Chosen, spec: ModelSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"backbone": spec.backbone}
    found |= {name: _plain(chosen.row.get(name)) for name in TRAINING}
    written = chosen.row.get("settings")
    settings = {} if is_missing(written) else json.loads(str(written))
    found["settings"] = {k: v for k, v in settings.items() if k not in found and v is not None}
    return {name: value for name, value in found.items() if value is not None}


def licence_of_weights(spec: ModelSpec, name: str) -> str:
    """The licence of the starting weights, as the library that offers them says; else `unknown`."""
    from bench.models.catalogue import BACKBONES, EFFICIENTNET_LITE0, is_timm

    if spec.start is None or name == NONE:
        return "no licence of others applies, as values were drawn at random"
    if name.startswith(("fractals", "language")):
        return "no licence of others applies, as the run itself trained them, on generated data"
    if name.startswith(FILE) or spec.backbone == EFFICIENTNET_LITE0:
        return UNKNOWN_LICENCE
    if is_timm(spec.backbone):
        from bench.models.timm_models import pretrained_config

        return str(pretrained_config(spec.backbone).license or UNKNOWN_LICENCE)
    if spec.backbone in BACKBONES:
        from torchvision.models import get_model_weights

        sets = get_model_weights(spec.backbone)
        chosen = sets.__members__.get(name, sets.DEFAULT)
        return str(chosen.meta.get("license") or UNKNOWN_LICENCE)
    return UNKNOWN_LICENCE


def _limits(run: Run, model: TrainedModel, wish: Wish, check: Check) -> Iterator[str]:
    kind = model.preprocessing.kind
    images = "samples" if kind == "vector" else f"{kind}s"
    counts = run.data.get("counts", {})
    yield f"{_answers_always(model)} for every input, even for {images} of something else."
    train, test = (sum(counts.get(split, {}).values()) for split in ("train", "test"))
    yield (
        f"It was trained on {train:,} {images} and tested on {test:,} that come from the same "
        f"source. Its results on other sources ({_OTHERS[kind]}) were not measured and are usually "
        "worse."
    )
    yield (
        "The intervals cover the choice of test samples from that source. They do not cover that "
        "other people may label such samples differently."
    )
    worst = min(
        (each for each in _by_class(run, model) if each["recall"] is not None),
        key=lambda each: each["recall"],
        default=None,
    )
    if worst is not None and worst["recall"] < 1:
        yield (
            f"It finds {worst['class']} least often: {_percent(worst['recall'])} of "
            f"{worst['samples']:,} test samples."
        )
    error = _plain(model.chosen.row.get("test_ece"))
    if error is not None:
        yield (
            "Its probabilities are not calibrated: on the test split they were off by "
            f"{100 * error:.1f} points on average."
        )
    if kind == "text":
        yield f"Of a text it sees {model.preprocessing.size:,} tokens, and nothing behind them."
    if kind == "image":
        compared = Reading(outputs=model.outputs).compared
        yield (
            f"Files were decoded by Pillow {version('pillow')}, upright by their EXIF entry. Other "
            f"decoders give slightly other pixels, and so slightly other {compared}."
        )
    if wish.dtype == "fp16":
        yield "It computes in fp16; the figures of metrics are those of the trial as it was tested."
    if check.missing is not None:
        yield (
            "The file was checked on generated samples, because the test split could not be read: "
            f"{check.missing}"
        )


_OTHERS = {
    "image": "another camera, place or time",
    "vector": "another instrument, place or time",
    "text": "other authors, subjects or times",
}


def _answers_always(model: TrainedModel) -> str:
    count = len(model.classes)
    if model.outputs.task is REGRESSION:
        return f"It answers with values of its {model.outputs}"
    if model.outputs.task is MULTI_LABEL:
        return f"It decides on each of its {model.outputs}"
    return f"It answers with one of its {count} classes"


def _versions(kind: InputKind) -> Iterator[tuple[str, str]]:
    of_kind = ("tokenizers", "transformers") if kind == "text" else ("torchvision", "pillow")
    for name in ("bench", "torch", *of_kind):
        yield name, version(name)


def _plain(value: Any) -> Any:
    """A cell of a table as JSON has it."""
    if is_missing(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _known(interval: tuple[float, float], metric: Metric | None = None) -> list[float] | None:
    """Its ends; those of a fraction within 0 and 1."""
    if is_missing(interval[0]):
        return None
    low, high = (float(end) for end in interval)
    fraction = metric is None or metric.percent
    kind = FRACTION if fraction or metric is None else TASK_METRICS.get(metric.name, FINITE)
    return [max(kind.low, low), min(kind.high, high)]


# Figures in Markdown --------------------------------------------------------------------------


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


def _figure(value: float | None, percent: bool) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if percent else f"{value:.3f}"


def _table(rows: Sequence[Sequence[str]], header: Sequence[str], numbers: Sequence[int]) -> str:
    cells = [[text(cell) for cell in row] for row in rows]
    return table([text(name) for name in header], cells, right=numbers)
