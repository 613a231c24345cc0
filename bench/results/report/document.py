"""The whole report as blocks: answer, evidence, how it was obtained, limits, how to repeat it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, bounded, counted
from bench.results.folder import STATUSES, Run, damaged_checkpoints, read_json
from bench.results.folder.looks import read_looks
from bench.results.grid import UNKNOWN, complete_trials, flat, has_folds, is_missing
from bench.results.plots import Drawn
from bench.results.report.blocks import (
    Block,
    Bold,
    Bullets,
    Code,
    Heading,
    Inline,
    Link,
    Table,
    paragraph,
)
from bench.results.report.called import called
from bench.results.report.evidence import Findings, evidence, standing
from bench.results.report.inputs import inputs_section
from bench.results.report.tuning import tuning_limits

if TYPE_CHECKING:
    import pandas as pd

MAX_CLASSES = 40
MAX_NAMED = 12
MAX_ERROR_LINES = 30

FILES: Mapping[str, str] = {
    "suite.yaml": "the suite, with everything filled in",
    "trials.parquet": "a row per trial",
    "curves.parquet": "loss and metrics of every epoch",
    "test_curves.parquet": "what the test split said of every epoch; nothing is chosen by it",
    "predictions.parquet": "every prediction on test and validation split, with probabilities",
    "children.parquet": "what finished trials were made into without training, a row each",
    "child_predictions.parquet": "their predictions, on both splits",
    "tuned.yaml": "the suite that the search for settings wrote",
    "tuning.parquet": "a row per trial of the search for settings",
    "untuned.parquet": "the trials of the same suite with its own settings",
    "untuned_predictions.parquet": "the test predictions of these trials",
    "verdict.json": "the verdict, with every comparison",
    "looks.json": "which trials were new at each look at the results",
    "accounts.json": "epochs and floating-point operations: asked for, shared, done",
    "data.json": "classes, counts and what was noticed about the data",
    "environment.json": "versions, processor, device, command",
    "thumbnails.parquet": "small copies of the test images that the report shows",
    "inputs.parquet": "a few training images as networks see them",
    "texts.json": "lengths of the test texts, and those that the report shows",
    "earlier": "tables and reports of suites that this folder had before",
    "split_check": "a run folder of its own: the same configs under a random split",
    "audit": "images and labels to look at: a table, JSON and a contact sheet",
    "outliers.parquet": "how unlike all others each image is, as an audit found",
    "advice.json": "what rules said before training, what to expect and what it costs",
    "transfer_scores.parquet": "how well each backbone may suit the data, told before training",
    "plots": "all figures",
    "checkpoints": "trained weights",
}


_OTHER_FILES: Mapping[str, Mapping[str, str]] = {
    "regression": {
        "predictions.parquet": "every prediction on test and validation split",
        "data.json": "targets, counts and what was noticed about the data",
    },
    "multi_label": {"data.json": "labels, counts and what was noticed about the data"},
}
"""What files hold where samples are of no single class."""


def document(
    found: Findings, targets: Mapping[str, str], drawn: Drawn | None = None
) -> Iterator[Block]:
    """The report's blocks; `targets` are the figures' files by name, relative to the report.

    `drawn` says which figures are missing and which names they show as numbers.
    """
    return called(_document(found, targets, drawn), found.words)


def _document(found: Findings, targets: Mapping[str, str], drawn: Drawn | None) -> Iterator[Block]:
    run = found.run
    yield Heading(f"Results of {run.suite.get('name', run.folder.name)}", 1)
    yield Bullets(tuple((Bold(f"{line.about}:"), line.text) for line in found.lines))
    yield from standing(found.verdict)
    yield paragraph(_completeness(run))
    yield from _headed("Evidence", evidence(found, targets))
    yield from _about_figures(drawn or Drawn())
    yield from _unfinished(found)
    yield Heading("How it was obtained")
    yield from _compared(found)
    yield from _data(run)
    yield from inputs_section(run, targets)
    yield from _environment(run.environment)
    yield from _headed("Limits", _limits(found))
    yield from _repeated(run.environment)
    yield from _files(run)
    yield from _damaged(run)


def _headed(heading: str, blocks: Iterable[Block]) -> Iterator[Block]:
    """The blocks below a heading; nothing if there are none."""
    for index, block in enumerate(blocks):
        if not index:
            yield Heading(heading)
        yield block


def _about_figures(drawn: Drawn) -> Iterator[Block]:
    """Which names the figures show as numbers, and which figures are missing, and why."""
    if drawn.numbers:
        yield Heading("Names in the figures", 3)
        yield paragraph(
            "No font of the machine that drew the figures has the characters of these names, so "
            "the figures show numbers. With a font that has them (such as Noto Sans), bench report "
            "draws the names."
        )
        rows = tuple((number, name) for name, number in drawn.numbers.items())
        yield Table("names", ("number", "name"), rows)
    if not drawn.failed:
        return
    yield Heading("Figures that could not be drawn", 3)
    reasons: dict[str, list[str]] = {}
    for name, reason in drawn.failed.items():
        reasons.setdefault(reason, []).append(name)
    items = []
    for reason, names in reasons.items():
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        items.append((Bold(f"{', '.join(names[:MAX_NAMED])}{more}:"), reason))
    yield Bullets(tuple(items))


def _completeness(run: Run) -> str:
    counts = {status: int((run.trials["status"] == status).sum()) for status in STATUSES}
    counts["not run yet"] = run.num_trials - len(run.trials)
    others = [f"{n} {status}" for status, n in counts.items() if n and status != "complete"]
    rest = f" ({', '.join(others)})" if others else ""
    sentence = f"Complete: {counts['complete']} of {counted(run.num_trials, 'trial')}{rest}."
    without = run.trials["config"].nunique() - complete_trials(run.trials)["config"].nunique()
    if not without:
        return sentence
    return f"{sentence} No trial of {counted(without, 'config')} is complete."


def _unfinished(found: Findings) -> Iterator[Block]:
    run, labels = found.run, found.grid.labels
    rest = run.trials[run.trials["status"] != "complete"]
    waiting = run.num_trials - len(run.trials)
    if rest.empty and not waiting:
        return
    yield Heading("What is not complete")
    if waiting:
        yield paragraph(f"{counted(waiting, 'trial')} not run yet: the command below runs them.")
    reasons = rest["error"].fillna("no reason was given")
    for (status, reason), group in rest.groupby([rest["status"], reasons], sort=False):
        names = [
            f"{labels[str(config)]} (seed {', '.join(_seeds_and_folds(rows))})"
            for config, rows in group.groupby("config", sort=False)
        ]
        more = (
            f" and {counted(len(names) - MAX_NAMED, 'more config')}"
            if len(names) > MAX_NAMED
            else ""
        )
        shown = "; ".join(names[:MAX_NAMED])
        yield paragraph(f"{counted(len(group), 'trial')} {status}: {shown}{more}")
        yield Code(str(reason), max_lines=MAX_ERROR_LINES)


def _seeds_and_folds(rows: pd.DataFrame) -> Iterator[str]:
    """The seeds of some trials of a config, with their folds where they have some."""
    for seed, own in rows.groupby("seed", sort=False):
        folds = ", ".join(map(str, own["fold"])) if has_folds(own) else ""
        yield f"{seed}{f' fold {folds}' if folds else ''}"


def _compared(found: Findings) -> Iterator[Block]:
    run, grid = found.run, found.grid
    complete = complete_trials(run.trials)
    seeds = sorted(run.trials["seed"].dropna().unique())
    items: list[tuple[Inline, ...]] = [
        (Bold(axis), f"({len(grid.axes[axis])}): {_list(grid.axes[axis])}") for axis in grid.keys
    ]
    items += [
        (Bold(axis), f"given by the axes above: {_list(grid.axes[axis])}")
        for axis in grid.varying
        if axis not in grid.keys
    ]
    sizes, folds = _split_sizes(run), run.data.get("folds")
    items += [
        (Bold("seeds:"), f"{_list(seeds)}{f', each with {folds} folds' if folds else ''}"),
        (Bold("data set:"), f"{_list(run.trials['dataset'].dropna().unique())}{sizes}"),
        (Bold("device:"), _list(complete["device"].dropna().unique())),
        (Bold("precision:"), _list(complete["precision"].dropna().unique())),
    ]
    if not complete.empty:
        items.append((Bold("time:"), _time(complete)))
    items += [(Bold("work of the last start:"), sentence) for sentence in _work(run.folder)]
    yield Heading("What was compared", 3)
    yield Bullets(tuple(items))


def _work(folder: Path) -> Iterator[str]:
    """What the last start of the run had to do, in trial-epochs and floating-point operations."""
    try:
        yield bounded(str(read_json(folder / "accounts.json")["sentence"]))
    except (BenchError, KeyError, TypeError, IndexError):
        return


def _data(run: Run) -> Iterator[Block]:
    data = run.data
    yield Heading("Data", 3)
    issues = data.get("issues", [])
    if issues:
        yield Bullets(tuple((Bold(i["kind"]), f"({i['count']}): {i['message']}") for i in issues))
    else:
        yield paragraph("Nothing was noticed about the data.")
    match run.target_task:
        case "classification":
            yield from _images_by_class(data)
        case "regression":
            yield from _targets(run)
        case "multi_label":
            yield from _images_by_label(data)


def _targets(run: Run) -> Iterator[Block]:
    """How each target was standardised, by the training split of a first trial."""
    known = run.trials.get("standardised")
    texts = () if known is None else known.dropna()
    names = list(run.data.get("classes", ()))
    if not len(texts) or not names:
        return
    found = json.loads(next(iter(texts)))
    yield paragraph(
        "Networks learn standardised targets, (value − mean) / sd of the training split, here of a "
        "first trial; predictions and metrics are in the targets' own units:"
    )
    rows = tuple(
        (name, f"{mean:.6g}", f"{sd:.6g}")
        for name, mean, sd in zip(names, found["mean"], found["sd"], strict=False)
    )
    yield Table("targets", ("target", "mean", "sd"), rows[:MAX_CLASSES], (1, 2))
    yield from _more(len(rows), "target")


def _images_by_label(data: Mapping[str, Any]) -> Iterator[Block]:
    positives, names = data.get("positives", {}), list(data.get("classes", ()))
    if not positives or not names:
        return
    of = " in the first fold of the first seed" if data.get("folds") else ""
    yield paragraph(f"Images with each label{of}; an image may have several of them, or none:")
    rows = tuple(
        (name, *(str(positives[split].get(name, 0)) for split in positives))
        for name in names[:MAX_CLASSES]
    )
    yield Table("labels", ("label", *positives), rows, tuple(range(1, len(positives) + 1)))
    yield from _more(len(names), "label")


def _more(count: int, what: str) -> Iterator[Block]:
    if count > MAX_CLASSES:
        yield paragraph(f"{counted(count - MAX_CLASSES, f'more {what}')} in data.json.")


def _images_by_class(data: Mapping[str, Any]) -> Iterator[Block]:
    counts = data.get("counts", {})
    classes = list(data.get("classes", []))
    if counts and classes:
        rows = tuple(
            (name, *(str(counts[split].get(name, 0)) for split in counts))
            for name in classes[:MAX_CLASSES]
        )
        of = " in the first fold of the first seed" if data.get("folds") else ""
        yield paragraph(f"Images per class{of}:")
        yield Table("classes", ("class", *counts), rows, tuple(range(1, len(counts) + 1)))
    if len(classes) > MAX_CLASSES:
        yield paragraph(
            f"{counted(len(classes) - MAX_CLASSES, 'more class', 'more classes')} in data.json."
        )


def _environment(environment: Mapping[str, Any]) -> Iterator[Block]:
    facts = {name: value for name, value in environment.items() if name != "command"}
    rows = tuple(
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in flat(facts, separator=" ").items()
        if value not in ("", None, [])
    )
    if rows:
        yield Heading("Environment", 3)
        yield Table("environment", ("what", "value"), rows)


def _limits(found: Findings) -> Iterator[Block]:
    run, items = found.run, []
    if run.trials["dataset"].nunique() <= 1:
        items.append("Only one data set was used; the results on others may differ.")
    items += _readings(run)
    if run.environment.get("decide"):
        items.append(
            "Seeds were added while the comparison was open (--decide), which looks at the test "
            "split: the intervals are wider for every look."
        )
    short = _seeds_without_all_folds(run)
    if short:
        items.append(
            f"{counted(short, 'seed')} of a config without all folds: such a seed counts with the "
            "mean over its complete folds, and so over fewer images."
        )
    if found.tuning is not None:
        items += tuning_limits(found.tuning)
    elif run.trials["config"].nunique() > 1:
        items.append(
            "Settings are those of the suite: another learning rate could change the order."
        )
    if items:
        yield Bullets(tuple((item,) for item in items))


def _readings(run: Run) -> Iterator[str]:
    """How often the test split was read, by all suites that the folder has had."""
    looks = read_looks(run.folder)
    trials = sum(map(len, looks))
    if not trials:
        return
    epochs = len(run.test_curves)
    diagnosed = f", and after {counted(epochs, 'epoch')} for the diagnosis alone" if epochs else ""
    yield (
        f"The test split was read once by each of {counted(trials, 'trial')} so far, in "
        f"{counted(len(looks), 'look')} at the results{diagnosed}."
    )


def _seeds_without_all_folds(run: Run) -> int:
    """How many seeds of configs have some complete folds, but not all."""
    folds = run.data.get("folds")
    if not folds:
        return 0
    counts = complete_trials(run.trials).groupby(["config", "seed"]).size()
    return int((counts < folds).sum())


def _repeated(environment: Mapping[str, Any]) -> Iterator[Block]:
    command = environment.get("command")
    if command:
        yield Heading("To repeat it")
        yield Code(command if isinstance(command, str) else shlex.join(command), "sh")


def _damaged(run: Run) -> Iterator[Block]:
    found = damaged_checkpoints(run.folder, complete_trials(run.trials)["trial"])
    if found:
        yield paragraph("These checkpoints are damaged; bench run trains their trials again:")
        yield Bullets(
            tuple((f"checkpoints/{trial}.safetensors: {why}",) for trial, why in found.items())
        )


def _files(run: Run) -> Iterator[Block]:
    files = {**FILES, **_OTHER_FILES.get(run.target_task, {})}
    items = tuple(
        (Link(name, name), f"– {what}")
        for name, what in files.items()
        if (run.folder / name).exists()
    )
    if items:
        yield Heading("Files")
        yield Bullets(items)


_OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "classification": ("class", "classes"),
    "regression": ("target",),
    "multi_label": ("label",),
}
"""What outputs of networks are: one of them, and where it is not its plural, several."""


def _split_sizes(run: Run) -> str:
    data = run.data
    sizes = [f"{sum(counts.values())} {split}" for split, counts in data.get("counts", {}).items()]
    number = len(data.get("classes", []))
    outputs = counted(number, *_OUTPUTS[run.target_task])
    of = " of the first fold of the first seed" if data.get("folds") else ""
    return f", {outputs}; images{of}: {', '.join(sizes)}" if sizes else ""


def _time(complete: pd.DataFrame) -> str:
    seconds = complete["train_seconds"].sum()
    sentence = f"{seconds:.0f} s of training"
    started, finished = complete["started"].min(), complete["finished"].max()
    if not (is_missing(started) or is_missing(finished)):
        form = "%Y-%m-%d %H:%M"
        sentence += f", from {started.strftime(form)} to {finished.strftime(form)} UTC"
    reused, epochs = int(complete["reused_epochs"].sum()), int(complete["epochs"].sum())
    if reused:
        sentence += (
            f"; {reused} of {counted(epochs, 'epoch')} shared with a trial that begins in the "
            "same way"
        )
    return sentence


def _list(values: Iterable[Any] | Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values) or UNKNOWN
