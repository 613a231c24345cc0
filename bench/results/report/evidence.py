"""What a run found, as blocks: comparisons, rankings, how training went, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bench.results.analysis import (
    ALPHA,
    COSTS,
    Comparison,
    natural_target,
    pareto_front,
    sample_of,
    trial_measures,
    variance_shares,
    wilson_interval,
)
from bench.results.folder import MeasuredMetric, Run, Tuning, read_tuning
from bench.results.grid import (
    UNKNOWN,
    ConfigResult,
    Grid,
    complete_trials,
    is_missing,
    rank_configs,
    read_grid,
    spread,
)
from bench.results.plots import CAPTIONS, MAX_TRIAL_FIGURES, TRIAL_PREFIX, caption
from bench.results.report.answer import Contest, contest, named
from bench.results.report.blocks import (
    Block,
    Bullets,
    Details,
    Heading,
    Link,
    Picture,
    Table,
    paragraph,
)
from bench.results.report.tuning import tuning_section
from bench.results.report.wording import (
    claim,
    counted,
    mean,
    mean_sd,
    or_unknown,
    point_interval,
    points,
)

if TYPE_CHECKING:
    import pandas as pd

LEAD_FIGURE = "test_accuracy"
LEAST_SHARE = 0.005
MAX_PAIRS = 45
MAX_RANKED = 100


@dataclass(frozen=True, kw_only=True)
class Findings:
    """A run with what is computed from it once for all forms of report."""

    run: Run

    @cached_property
    def grid(self) -> Grid:
        return read_grid(self.run.trials)

    @cached_property
    def results(self) -> Sequence[ConfigResult]:
        return rank_configs(self.run.trials, self.grid)

    @cached_property
    def contest(self) -> Contest | None:
        return contest(self.run.trials, self.grid, self.results, self.run.predictions)

    @cached_property
    def tuning(self) -> Tuning | None:
        """The search for the settings of the run; None if they were not searched."""
        return read_tuning(self.run.folder)

    @property
    def test_images(self) -> int:
        """The size of the test split; 0 if it is not known."""
        return sum(self.run.data.get("counts", {}).get("test", {}).values())


def evidence(found: Findings, targets: Mapping[str, str]) -> Iterator[Block]:
    """The blocks below "Evidence"; `targets` are the figures' files by name."""
    if LEAD_FIGURE in targets:
        yield Picture(LEAD_FIGURE, CAPTIONS[LEAD_FIGURE], targets[LEAD_FIGURE])
    if found.contest is not None and found.contest.comparisons:
        yield from _pairs(found.contest)
    if found.tuning is not None:
        yield from tuning_section(found.tuning, found.run.trials)
    if found.results:
        yield from _ranking(found)
        yield from _measured(found)
    yield from _training(found)
    yield from _shares(found)
    yield from _fronts(found)
    others = {name: caption(name) for name in targets if name != LEAD_FIGURE}
    shown = [Picture(name, about, targets[name]) for name, about in others.items() if about]
    if shown:
        yield Heading("Figures", 3)
        yield from shown
    yield from _single_trials(found, targets)


def _pairs(found: Contest) -> Iterator[Block]:
    shown = found.comparisons
    if len(shown) > MAX_PAIRS:
        shown = list(found.against.values())
    yield Heading("Each against each", 3)
    yield paragraph(
        "Differences of test accuracy in points, first minus second, paired by seed, with 95 % "
        "interval (BCa bootstrap). p: exact sign-flip test, two-sided; corrected after Holm over "
        f"{counted(len(found.comparisons), 'pair')}. Ahead: share of seeds. McNemar: seeds in "
        "which the two differ on the test images (exact, p < 0.05, uncorrected)."
    )
    header = ("first", "second", "difference", "95 % interval", "p", "corrected", "ahead")
    yield Table(
        "pairs",
        (*header, "McNemar", "claim"),
        tuple(_pair(found, comparison) for comparison in shown),
        tuple(range(2, 8)),
    )
    if len(shown) < len(found.comparisons):
        yield paragraph(f"Only pairs with {found.leader} are shown.")


def _pair(found: Contest, comparison: Comparison) -> tuple[str, ...]:
    """A row of the table."""
    ps = found.sample_ps(comparison)
    return (
        comparison.first,
        comparison.second,
        points(comparison.effect),
        point_interval(comparison.interval),
        f"{comparison.p:.2g}",
        f"{comparison.corrected:.2g}",
        f"{100 * comparison.improvement:.0f} %" if comparison.seeds else UNKNOWN,
        f"{sum(p < ALPHA for p in ps)} of {len(ps)}",
        claim(comparison),
    )


def _ranking(found: Findings) -> Iterator[Block]:
    axes = found.grid.varying
    fixed = [f"{axis} {v[0]}" for axis, v in found.grid.axes.items() if len(v) == 1]
    yield Heading("Ranking", 3)
    yield paragraph(f"The same for all: {', '.join(fixed)}.")
    yield paragraph(
        "Accuracies in percent, mean ± standard deviation over seeds; test accuracy at the epoch "
        "that validation chose (best epoch), last: after the last epoch. 95 %: interval of the "
        "mean over seeds (BCa bootstrap), of a single seed by its test images (Wilson). IQM: "
        "interquartile mean. Training time is the mean of a trial, in seconds."
    )
    figures = ("seeds", "test", "95 %", "median", "IQM", "val", "best epoch", "last", "s")
    header = ("rank", *axes, *figures)
    rows = tuple(
        (
            UNKNOWN if result.rank is None else str(result.rank),
            *(result.cell[axis] for axis in axes),
            str(result.test_accuracy.n),
            mean_sd(result.test_accuracy),
            *_centres(found, result),
            mean(result.val_accuracy, 100),
            _epochs(result.best_epochs),
            mean(result.last_test_accuracy, 100),
            mean(result.train_seconds),
        )
        for result in found.results[:MAX_RANKED]
    )
    yield Table("ranking", header, rows, (0, *range(len(axes) + 1, len(header))))
    if len(found.results) > MAX_RANKED:
        yield paragraph(f"{len(found.results) - MAX_RANKED} more configs are in trials.parquet.")


def _measured(found: Findings) -> Iterator[Block]:
    """Every metric of the test split, where a run has more than the accuracy."""
    metrics = found.run.metrics
    complete = complete_trials(found.run.trials)
    known = [metric for metric in metrics if f"test_{metric.name}" in complete]
    if len(known) < 2:
        return
    yield Heading("Metrics", 3)
    yield paragraph(
        "Of the test split at the chosen epoch, mean ± standard deviation over seeds. Epochs were "
        f"chosen by {metrics[0].label} on validation.",
        *_lower_is_better(known),
    )
    by_config = dict(list(complete.groupby("config", sort=False)))
    rows = tuple(
        (
            result.label,
            *(_mean_sd_of(metric, by_config[result.config]) for metric in known),
        )
        for result in found.results[:MAX_RANKED]
    )
    header = ("", *(f"{m.label} (%)" if m.percent else m.label for m in known))
    yield Table("metrics", header, rows, tuple(range(1, len(header))))


def _lower_is_better(metrics: Sequence[MeasuredMetric]) -> Iterator[str]:
    labels = [metric.label for metric in metrics if not metric.higher_is_better]
    if labels:
        *others, last = labels
        named = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        them = "they are" if others else "it is"
        yield f"{named[0].upper()}{named[1:]} better the lower {them}."


def _mean_sd_of(metric: MeasuredMetric, trials: pd.DataFrame) -> str:
    own = spread(trials[f"test_{metric.name}"])
    if not own.n:
        return UNKNOWN
    sd = f" ± {metric.text(own.sd)}" if own.n > 1 else ""
    return f"{metric.text(own.mean)}{sd}"


def _centres(found: Findings, result: ConfigResult) -> tuple[str, str, str]:
    """The interval, median and interquartile mean of test accuracy."""
    complete = complete_trials(found.run.trials)
    sample = sample_of(complete.loc[complete["config"] == result.config, "test_accuracy"])
    low, high = sample.interval
    if sample.n == 1 and found.test_images:
        low, high = wilson_interval(round(sample.mean * found.test_images), found.test_images)
    return (
        UNKNOWN if is_missing(low) else f"{100 * low:.1f}–{100 * high:.1f}",
        or_unknown(100 * sample.median, "{:.1f}"),
        or_unknown(100 * sample.interquartile_mean, "{:.1f}"),
    )


def _training(found: Findings) -> Iterator[Block]:
    """How fast the configs learned and what they lost on the way."""
    run, axes = found.run, found.grid.varying
    target = natural_target(run.trials)
    if is_missing(target) or run.curves.empty:
        return
    goal = f"{100 * target:.0f} %"
    yield Heading("How they trained", 3)
    yield paragraph(
        f"Means over seeds. To {goal}: epochs, training images and seconds until validation "
        "accuracy first reached it, and in how many seeds it did. Mean val: validation accuracy "
        "averaged over all epochs. Gap: training minus validation accuracy after the last epoch. "
        "Late: test accuracy at the chosen epoch minus after the last one. In percent and points."
    )
    by_config = trial_measures(run, target=target).groupby("config")
    means, reached, sizes = (
        by_config.mean(),
        by_config["epochs_to_target"].count(),
        by_config.size(),
    )
    figures = (f"to {goal}", "epochs", "images", "s", "mean val", "gap", "late")
    rows = tuple(
        (
            *(result.cell[axis] for axis in axes),
            f"{reached[result.config]} of {sizes[result.config]}",
            or_unknown(means["epochs_to_target"][result.config], "{:.1f}"),
            or_unknown(means["images_to_target"][result.config], "{:,.0f}"),
            or_unknown(means["seconds_to_target"][result.config], "{:.1f}"),
            or_unknown(100 * means["area"][result.config], "{:.1f}"),
            or_unknown(100 * means["overfitting"][result.config], "{:+.1f}"),
            or_unknown(100 * means["late_loss"][result.config], "{:+.1f}"),
        )
        for result in found.results[:MAX_RANKED]
    )
    numbers = tuple(range(len(axes), len(axes) + len(figures)))
    yield Table("training", (*axes, *figures), rows, numbers)


def _shares(found: Findings) -> Iterator[Block]:
    effects = [e for e in variance_shares(found.run.trials, found.grid) if e.share >= LEAST_SHARE]
    if not effects or not found.grid.keys:
        return
    rest = 1 - sum(effect.share for effect in effects)
    rows = [(" × ".join(effect.axes), f"{100 * effect.share:.1f}") for effect in effects]
    yield Heading("What moves test accuracy", 3)
    yield paragraph("Share of the variance over all trials that an axis explains, or two (η²).")
    rows.append(("all else", f"{100 * rest:.1f}"))
    yield Table("variance", ("axis", "percent"), tuple(rows), (1,))


def _fronts(found: Findings) -> Iterator[Block]:
    """What nothing else beats at lower cost."""
    known = [result for result in found.results if result.rank is not None]
    means = complete_trials(found.run.trials).groupby("config")[list(COSTS)].mean()
    items = []
    for column, name in COSTS.items():
        costs = {
            result.config: float(means[column][result.config])
            for result in known
            if not is_missing(means[column][result.config])
        }
        if len(set(costs.values())) < 2:
            continue
        priced = [result for result in known if result.config in costs]
        front = pareto_front([r.test_accuracy.mean for r in priced], list(costs.values()))
        best = [r.label for r, kept in zip(priced, front, strict=True) if kept]
        items.append((f"for {name}: {named(best)}",))
    if items:
        yield paragraph("No other config is both more accurate (by its mean) and cheaper:")
        yield Bullets(tuple(items))


def _single_trials(found: Findings, targets: Mapping[str, str]) -> Iterator[Block]:
    complete = complete_trials(found.run.trials)
    if complete.empty:
        return
    rows: list[tuple[str | Link, ...]] = []
    for row in complete.head(MAX_TRIAL_FIGURES).to_dict("records"):
        name = str(row["trial"])
        target = targets.get(TRIAL_PREFIX + name)
        rows.append(
            (
                found.grid.labels[str(row["config"])],
                str(row["seed"]),
                mean(spread([row["test_accuracy"]]), 100),
                mean(spread([row["val_accuracy"]]), 100),
                UNKNOWN if is_missing(row["best_epoch"]) else str(row["best_epoch"]),
                name if target is None else Link(name, target),
            )
        )
    header = ("config", "seed", "test", "val", "best epoch", "curves")
    blocks: list[Block] = [Table("trials", header, tuple(rows), (1, 2, 3, 4))]
    if len(complete) > MAX_TRIAL_FIGURES:
        blocks.append(paragraph(f"{len(complete) - MAX_TRIAL_FIGURES} more are in trials.parquet."))
    yield Details(f"Single trials ({len(complete)} complete)", tuple(blocks))


def _epochs(epochs: Sequence[int]) -> str:
    if not epochs:
        return UNKNOWN
    return str(epochs[0]) if epochs[0] == epochs[-1] else f"{epochs[0]}–{epochs[-1]}"
