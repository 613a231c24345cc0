"""`report.md`: the answer first, then everything needed to judge and to repeat it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cache import atomic_file
from bench.plots import CAPTIONS, MAX_TRIAL_FIGURES, TRIAL_PREFIX, write_plots
from bench.report.answer import answer
from bench.report.markup import fence, image, link, table, text
from bench.store import STATUSES
from bench.summary import (
    UNKNOWN,
    ConfigResult,
    Grid,
    Spread,
    complete_trials,
    is_missing,
    rank_configs,
    read_grid,
    spread,
)

if TYPE_CHECKING:
    import pandas as pd

    from bench.store import Run

MAX_RANKED = 100
MAX_CLASSES = 40
MAX_NAMED = 12
MAX_ERROR_LINES = 30

FILES: Mapping[str, str] = {
    "suite.yaml": "the suite, with everything filled in",
    "trials.parquet": "a row per trial",
    "curves.parquet": "loss and accuracy of every epoch",
    "predictions.parquet": "every prediction on the test split, with probabilities",
    "accounts.json": "epochs and floating-point operations: asked for, shared, done",
    "data.json": "classes, counts and what was noticed about the data",
    "environment.json": "versions, processor, device, command",
    "plots": "all figures",
    "checkpoints": "trained weights",
}


def write_report(run: Run, figures: Mapping[str, Path] | None = None) -> Path:
    """Write `report.md` into the run's folder; draws the figures if they are not given."""
    if figures is None:
        figures = write_plots(run, run.folder / "plots")
    path = run.folder / "report.md"
    with atomic_file(path) as temporary:
        temporary.write_text(render_markdown(run, figures), encoding="utf-8")
    return path


def render_markdown(run: Run, figures: Mapping[str, Path]) -> str:
    """The report as Markdown; `figures` are those of `write_plots`."""
    grid = read_grid(run.trials)
    results = rank_configs(run.trials, grid)
    targets = {
        name: Path(os.path.relpath(path, run.folder)).as_posix() for name, path in figures.items()
    }
    first, *rest = answer(results)
    sections = [
        f"# Results of {text(run.suite.get('name', run.folder.name))}",
        f"**{text(first)}** {text(' '.join([*rest, _completeness(run)]))}",
        *_compared(run, grid),
        *_ranking(grid, results),
        *_figures(targets),
        *_single_trials(run, grid, targets),
        *_unfinished(run, grid),
        *_data(run.data),
        *_environment(run.environment),
        *_files(run.folder),
    ]
    return "\n\n".join(sections) + "\n"


def _completeness(run: Run) -> str:
    counts = {status: int((run.trials["status"] == status).sum()) for status in STATUSES}
    counts["not run yet"] = run.planned - len(run.trials)
    others = [f"{n} {status}" for status, n in counts.items() if n and status != "complete"]
    rest = f" ({', '.join(others)})" if others else ""
    sentence = f"Complete: {counts['complete']} of {_count(run.planned, 'trial')}{rest}."
    without = run.trials["config"].nunique() - complete_trials(run.trials)["config"].nunique()
    if not without:
        return sentence
    return f"{sentence} Of {_count(without, 'config')} no trial is complete."


def _compared(run: Run, grid: Grid) -> Iterator[str]:
    yield "## What was compared"
    complete = complete_trials(run.trials)
    lines = [
        *(
            f"**{text(axis)}** ({len(grid.axes[axis])}): {_list(grid.axes[axis])}"
            for axis in grid.keys
        ),
        *(
            f"**{text(axis)}** follows from the above: {_list(grid.axes[axis])}"
            for axis in grid.varying
            if axis not in grid.keys
        ),
        f"**seeds**: {_list(sorted(run.trials['seed'].dropna().unique()))}",
        f"**data set**: {_list(run.trials['dataset'].dropna().unique())}{_split_sizes(run.data)}",
        f"**device**: {_list(complete['device'].dropna().unique())}; "
        f"**precision**: {_list(complete['precision'].dropna().unique())}",
    ]
    if not complete.empty:
        lines.append(f"**time**: {_time(complete)}")
    lines += [f"**work**: {line}" for line in _work(run.folder)]
    yield "\n".join(f"- {line}" for line in lines)


def _work(folder: Path) -> Iterator[str]:
    """What the last start of the run had to do, in trial-epochs and floating-point operations."""
    try:
        counts = json.loads((folder / "accounts.json").read_text(encoding="utf-8"))
        yield text(counts["sentence"])
    except (OSError, ValueError, KeyError, TypeError):
        return


def _ranking(grid: Grid, results: Sequence[ConfigResult]) -> Iterator[str]:
    if not results:
        return
    yield "## Ranking"
    fixed = [f"{text(axis)} {text(v[0])}" for axis, v in grid.axes.items() if len(v) == 1]
    yield f"The same for all: {', '.join(fixed)}."
    yield (
        "Accuracies in percent, mean ± standard deviation over seeds; test accuracy at the epoch "
        "that validation chose (best epoch), last: after the last epoch. Training time is the mean "
        "of a trial, in seconds."
    )
    axes = grid.varying
    header = [
        "rank",
        *map(text, axes),
        "seeds",
        "test",
        "min–max",
        "val",
        "best epoch",
        "last",
        "s",
    ]
    rows = [
        [
            UNKNOWN if result.rank is None else str(result.rank),
            *(text(result.cell[axis]) for axis in axes),
            str(result.test_accuracy.n),
            _mean_sd(result.test_accuracy),
            _range(result.test_accuracy),
            _mean(result.val_accuracy, 100),
            _epochs(result.best_epochs),
            _mean(result.last_test_accuracy, 100),
            _mean(result.train_seconds),
        ]
        for result in results[:MAX_RANKED]
    ]
    numbers = [0, *range(len(axes) + 1, len(header))]
    yield table(header, rows, right=numbers)
    if len(results) > MAX_RANKED:
        yield f"{len(results) - MAX_RANKED} more configs are in `trials.parquet`."


def _figures(targets: Mapping[str, str]) -> Iterator[str]:
    shown = [name for name in CAPTIONS if name in targets]
    if shown:
        yield "## Figures"
    for name in shown:
        yield CAPTIONS[name]
        yield image(name.replace("_", " "), targets[name])


def _single_trials(run: Run, grid: Grid, targets: Mapping[str, str]) -> Iterator[str]:
    complete = complete_trials(run.trials)
    if complete.empty:
        return
    yield f"<details><summary>Single trials ({len(complete)} complete)</summary>"
    rows = []
    for row in complete.head(MAX_TRIAL_FIGURES).to_dict("records"):
        target = targets.get(TRIAL_PREFIX + str(row["trial"]))
        epoch = UNKNOWN if is_missing(row["best_epoch"]) else str(row["best_epoch"])
        rows.append(
            [
                text(grid.labels[str(row["config"])]),
                str(row["seed"]),
                _mean(spread([row["test_accuracy"]]), 100),
                _mean(spread([row["val_accuracy"]]), 100),
                epoch,
                str(row["trial"]) if target is None else link(str(row["trial"]), target),
            ]
        )
    yield table(["config", "seed", "test", "val", "best epoch", "curves"], rows, right=range(1, 5))
    if len(complete) > MAX_TRIAL_FIGURES:
        yield f"{len(complete) - MAX_TRIAL_FIGURES} more are in `trials.parquet`."
    yield "</details>"


def _unfinished(run: Run, grid: Grid) -> Iterator[str]:
    rest = run.trials[run.trials["status"] != "complete"]
    waiting = run.planned - len(run.trials)
    if rest.empty and not waiting:
        return
    yield "## What is not complete"
    if waiting:
        yield f"{_count(waiting, 'trial')} not run yet: the command below goes on with the run."
    reasons = rest["error"].fillna("no reason was given")
    for (status, reason), group in rest.groupby([rest["status"], reasons], sort=False):
        seeds_of = group.groupby("config", sort=False)["seed"]
        names = [
            f"{grid.labels[str(config)]} (seed {', '.join(map(str, seeds))})"
            for config, seeds in seeds_of
        ]
        more = f" and {len(names) - MAX_NAMED} more configs" if len(names) > MAX_NAMED else ""
        shown = "; ".join(text(name) for name in names[:MAX_NAMED])
        yield f"{_count(len(group), 'trial')} {text(status)}: {shown}{more}"
        yield fence(str(reason), max_lines=MAX_ERROR_LINES)


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    yield "## Data"
    issues = data.get("issues", [])
    if issues:
        yield "\n".join(
            f"- **{text(issue['kind'])}** ({issue['count']}): {text(issue['message'])}"
            for issue in issues
        )
    else:
        yield "Nothing was noticed about the data."
    counts = data.get("counts", {})
    classes = list(data.get("classes", []))
    if counts and classes:
        rows = [
            [text(name), *(str(counts[split].get(name, 0)) for split in counts)]
            for name in classes[:MAX_CLASSES]
        ]
        yield "Images per class:"
        yield table(["class", *map(text, counts)], rows, right=range(1, len(counts) + 1))
    if len(classes) > MAX_CLASSES:
        yield f"{len(classes) - MAX_CLASSES} more classes are in `data.json`."


def _environment(environment: Mapping[str, Any]) -> Iterator[str]:
    facts = {name: value for name, value in environment.items() if name != "command"}
    rows = [[text(name), text(value)] for name, value in _flat(facts) if value not in ("", None)]
    if rows:
        yield "## Environment"
        yield table(["what", "value"], rows, right=[])
    command = environment.get("command")
    if command:
        yield "## To repeat it"
        yield fence(command if isinstance(command, str) else shlex.join(command), "sh")


def _files(folder: Path) -> Iterator[str]:
    lines = [
        f"- {link(name, name)}: {what}" for name, what in FILES.items() if (folder / name).exists()
    ]
    if lines:
        yield "## Files"
        yield "\n".join(lines)


def _split_sizes(data: Mapping[str, Any]) -> str:
    sizes = [
        f"{sum(counts.values())} {text(split)}" for split, counts in data.get("counts", {}).items()
    ]
    classes = f"{_count(len(data.get('classes', [])), 'class', 'classes')}"
    return f", {classes}; images: {', '.join(sizes)}" if sizes else ""


def _time(complete: pd.DataFrame) -> str:
    seconds = complete["train_seconds"].sum()
    sentence = f"{seconds:.0f} s of training"
    started, finished = complete["started"].min(), complete["finished"].max()
    if not (is_missing(started) or is_missing(finished)):
        form = "%Y-%m-%d %H:%M"
        sentence += f", from {started.strftime(form)} to {finished.strftime(form)} UTC"
    reused, epochs = int(complete["reused_epochs"].sum()), int(complete["epochs"].sum())
    if reused:
        sentence += f"; {reused} of {epochs} epochs were shared with a trial that begins the same"
    return sentence


def _list(values: Iterable[Any]) -> str:
    return ", ".join(text(value) for value in values) or UNKNOWN


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _mean_sd(spread: Spread) -> str:
    sd = f" ± {100 * spread.sd:.1f}" if spread.n > 1 else ""
    return f"{_mean(spread, 100)}{sd}"


def _range(spread: Spread) -> str:
    return f"{100 * spread.low:.1f}–{100 * spread.high:.1f}" if spread.n > 1 else UNKNOWN


def _mean(spread: Spread, factor: float = 1) -> str:
    return f"{factor * spread.mean:.1f}" if spread.n else UNKNOWN


def _epochs(epochs: Sequence[int]) -> str:
    if not epochs:
        return UNKNOWN
    return str(epochs[0]) if epochs[0] == epochs[-1] else f"{epochs[0]}–{epochs[-1]}"


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield (
                f"{prefix}{name}",
                ", ".join(map(str, value)) if isinstance(value, list) else value,
            )
