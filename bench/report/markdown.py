"""`report.md`: the answer first, then everything needed to judge and to repeat it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis import (
    ALPHA,
    COSTS,
    Comparison,
    natural_target,
    pareto_front,
    sample_of,
    sample_tests,
    trial_measures,
    variance_shares,
    wilson_interval,
)
from bench.cache import atomic_file
from bench.plots import CAPTIONS, MAX_TRIAL_FIGURES, TRIAL_PREFIX, write_plots
from bench.report.answer import Contest, answer, contest, named
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

LEAD_FIGURE = "test_accuracy"
LEAST_SHARE = 0.005
MAX_PAIRS = 45
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
    found = contest(run)
    first, *rest = answer(found)
    sections = [
        f"# Results of {text(run.suite.get('name', run.folder.name))}",
        f"**{text(first)}** {text(' '.join([*rest, _completeness(run)]))}",
        *_headed("## Evidence", _evidence(run, grid, results, found, targets)),
        *_unfinished(run, grid),
        "## How it was obtained",
        *_compared(run, grid),
        *_data(run.data),
        *_environment(run.environment),
        "## Limits",
        *_limits(run, found),
        *_repeated(run.environment),
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


def _headed(heading: str, sections: Iterable[str]) -> Iterator[str]:
    """The sections below a heading; nothing if there are none."""
    for index, section in enumerate(sections):
        if not index:
            yield heading
        yield section


def _evidence(
    run: Run,
    grid: Grid,
    results: Sequence[ConfigResult],
    found: Contest | None,
    targets: Mapping[str, str],
) -> Iterator[str]:
    if LEAD_FIGURE in targets:
        yield CAPTIONS[LEAD_FIGURE]
        yield image(LEAD_FIGURE.replace("_", " "), targets[LEAD_FIGURE])
    if found is not None and found.comparisons:
        yield from _pairs(run, found)
    yield from _ranking(run, grid, results)
    yield from _training(run, grid, results)
    yield from _shares(run, grid)
    yield from _fronts(results, run)
    yield from _figures(targets)
    yield from _single_trials(run, grid, targets)


def _pairs(run: Run, found: Contest) -> Iterator[str]:
    yield "### Each against each"
    trials = complete_trials(run.trials).set_index(["config", "seed"])["trial"]
    shown = found.comparisons
    if len(shown) > MAX_PAIRS:
        shown = list(found.against.values())
    rows = []
    for comparison in shown:
        low, high = comparison.interval
        sides = [found.results[side].config for side in (comparison.first, comparison.second)]
        ps = [
            sample_tests(run.predictions, *(str(trials[side, seed]) for side in sides))
            for seed in comparison.seeds
        ]
        rows.append(
            [
                text(comparison.first),
                text(comparison.second),
                _points(comparison.effect),
                UNKNOWN if is_missing(low) else f"{_points(low)} to {_points(high)}",
                f"{comparison.p:.2g}",
                f"{comparison.corrected:.2g}",
                f"{100 * comparison.improvement:.0f} %" if comparison.seeds else UNKNOWN,
                f"{sum(p < ALPHA for p in ps)} of {len(ps)}",
                text(_claim(comparison)),
            ]
        )
    yield (
        "Differences of test accuracy in points, first minus second, paired by seed, with 95 % "
        "interval (BCa bootstrap). p: exact sign-flip test, two-sided; corrected after Holm over "
        f"{_count(len(found.comparisons), 'pair')}. Ahead: share of seeds. McNemar: seeds in which "
        "the two differ on the test images (exact, p < 0.05, uncorrected)."
    )
    header = ["first", "second", "difference", "95 % interval", "p", "corrected", "ahead"]
    yield table([*header, "McNemar", "claim"], rows, right=range(2, 8))
    if len(shown) < len(found.comparisons):
        yield f"Only pairs with {text(found.leader)} are shown."


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}"


def _claim(comparison: Comparison) -> str:
    verdict, more = comparison.verdict, comparison.more_seeds
    if verdict == "better":
        return f"{comparison.first} beats {comparison.second}"
    if verdict == "worse":
        return f"{comparison.second} beats {comparison.first}"
    needed = f"; about {more} more seeds needed" if more else ""
    return "too few seeds to say" + needed if verdict != "undecided" else "undecided" + needed


def _training(run: Run, grid: Grid, results: Sequence[ConfigResult]) -> Iterator[str]:
    """How fast the configs learned and what they lost on the way."""
    target = natural_target(run.trials)
    if is_missing(target) or run.curves.empty:
        return
    yield "### How they trained"
    goal = f"{100 * target:.0f} %"
    yield (
        f"Means over seeds. To {goal}: epochs, training images and seconds until validation "
        "accuracy first reached it, and in how many seeds it did. Mean val: validation accuracy "
        "averaged over all epochs. Gap: training minus validation accuracy after the last epoch. "
        "Late: test accuracy at the chosen epoch minus after the last one. In percent and points."
    )
    measures = trial_measures(run, target=target)
    by_config = measures.groupby("config")
    means, reached = by_config.mean(), by_config["epochs_to_target"].count()
    rows = [
        [
            *(text(result.cell[axis]) for axis in grid.varying),
            f"{reached[result.config]} of {len(by_config.groups[result.config])}",
            _known(means["epochs_to_target"][result.config], "{:.1f}"),
            _known(means["images_to_target"][result.config], "{:,.0f}"),
            _known(means["seconds_to_target"][result.config], "{:.1f}"),
            _known(100 * means["area"][result.config], "{:.1f}"),
            _known(100 * means["overfitting"][result.config], "{:+.1f}"),
            _known(100 * means["late_loss"][result.config], "{:+.1f}"),
        ]
        for result in results[:MAX_RANKED]
    ]
    header = [f"to {goal}", "epochs", "images", "s", "mean val", "gap", "late"]
    right = range(len(grid.varying), len(grid.varying) + len(header))
    yield table([*map(text, grid.varying), *header], rows, right=right)


def _known(value: float, form: str) -> str:
    return UNKNOWN if is_missing(value) else form.format(value)


def _shares(run: Run, grid: Grid) -> Iterator[str]:
    effects = [e for e in variance_shares(run.trials, grid) if e.share >= LEAST_SHARE]
    if not effects or not grid.keys:
        return
    yield "### What moves test accuracy"
    rest = 1 - sum(effect.share for effect in effects)
    rows = [[text(" × ".join(e.axes)), f"{100 * e.share:.1f}"] for e in effects]
    yield "Share of the variance over all trials that an axis explains, or two together (η²)."
    yield table(["axis", "percent"], [*rows, ["all else", f"{100 * rest:.1f}"]], right=[1])


def _fronts(results: Sequence[ConfigResult], run: Run) -> Iterator[str]:
    """What nothing else beats at lower cost."""
    known = [result for result in results if result.rank is not None]
    if len(known) < 2:
        return
    means = complete_trials(run.trials).groupby("config")[list(COSTS)].mean()
    lines = []
    for column, name in COSTS.items():
        priced = [r for r in known if not is_missing(means[column][r.config])]
        if len({means[column][r.config] for r in priced}) < 2:
            continue
        accuracies = [r.test_accuracy.mean for r in priced]
        front = pareto_front(accuracies, [means[column][r.config] for r in priced])
        best = [r.label for r, kept in zip(priced, front, strict=True) if kept]
        lines.append(f"- for {name}: {text(named(best))}")
    if lines:
        yield "No other config is both more accurate (by its mean) and cheaper:"
        yield "\n".join(lines)


def _limits(run: Run, found: Contest | None) -> Iterator[str]:
    lines = ["One data set was used: what holds on it need not hold on others."]
    if run.trials["dataset"].nunique() > 1:
        lines = []
    counts = run.data.get("counts", {}).get("test", {})
    images = sum(counts.values())
    if found is not None and images:
        accuracy = found.results[found.leader].test_accuracy.mean
        low, high = wilson_interval(round(accuracy * images), images)
        lines.append(
            f"The test split has {images} images: even the best accuracy is known to within "
            f"{100 * low:.1f} to {100 * high:.1f} % for other images of the same kind (Wilson). "
            "The intervals over seeds above do not contain that."
        )
    if found is not None and any(0 < len(c.seeds) < 6 for c in found.comparisons):
        lines.append("Bootstrap intervals of fewer than six seeds are too narrow.")
    if len(run.trials["config"].unique()) > 1:
        lines.append(
            "Settings were compared as the suite gives them; another learning rate could change "
            "the order."
        )
    yield "\n".join(f"- {line}" for line in lines)


def _compared(run: Run, grid: Grid) -> Iterator[str]:
    yield "### What was compared"
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


def _ranking(run: Run, grid: Grid, results: Sequence[ConfigResult]) -> Iterator[str]:
    if not results:
        return
    yield "### Ranking"
    fixed = [f"{text(axis)} {text(v[0])}" for axis, v in grid.axes.items() if len(v) == 1]
    yield f"The same for all: {', '.join(fixed)}."
    yield (
        "Accuracies in percent, mean ± standard deviation over seeds; test accuracy at the epoch "
        "that validation chose (best epoch), last: after the last epoch. 95 %: interval of the "
        "mean over seeds (BCa bootstrap), of a single seed by its test images (Wilson). IQM: "
        "interquartile mean. Training time is the mean of a trial, in seconds."
    )
    axes = grid.varying
    header = [
        "rank",
        *map(text, axes),
        "seeds",
        "test",
        "95 %",
        "median",
        "IQM",
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
            *_centres(run, result),
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


def _centres(run: Run, result: ConfigResult) -> list[str]:
    """The interval, median and interquartile mean of test accuracy."""
    complete = complete_trials(run.trials)
    sample = sample_of(complete.loc[complete["config"] == result.config, "test_accuracy"])
    low, high = sample.interval
    images = sum(run.data.get("counts", {}).get("test", {}).values())
    if sample.n == 1 and images:
        low, high = wilson_interval(round(sample.mean * images), images)
    return [
        UNKNOWN if is_missing(low) else f"{100 * low:.1f}–{100 * high:.1f}",
        _known(100 * sample.median, "{:.1f}"),
        _known(100 * sample.interquartile_mean, "{:.1f}"),
    ]


def _figures(targets: Mapping[str, str]) -> Iterator[str]:
    shown = [name for name in CAPTIONS if name in targets and name != LEAD_FIGURE]
    if shown:
        yield "### Figures"
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
    yield "### Data"
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
        yield "### Environment"
        yield table(["what", "value"], rows, right=[])


def _repeated(environment: Mapping[str, Any]) -> Iterator[str]:
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
