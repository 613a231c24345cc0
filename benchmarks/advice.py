"""Are the rules of `bench advise` worth following? Scores them against what trials reach.

`train` runs a suite for every set of `advice_sets.py` and asks `bench advise` before. It goes on
where it was interrupted. `score` compares what each rule said with the test accuracies.

- Regret of a rule on a set, in points of accuracy: what the best option has on the test split,
  minus what the recommended one has. Options are strategies (the regret is the mean over the
  backbones of the set), or backbones (each with the strategy that is best on validation). A rule
  recommends the first of its ranking that the set has. The highest of several means is too high by
  luck, so "at most" (best and regret from the same test results) is biased upwards. "Crossed"
  chooses the best on the other seeds and half of the test samples, and scores it on what is left:
  what is chosen so may not be the best, so this is biased downwards, and may be negative. In the
  difference of two rules the best cancels, so that it has neither bias.
- τ: weighted Kendall τ (scipy) of a rule's ranking with the results, from three options on.
- Intervals (95 %) are percentiles of 10,000 draws of clusters with replacement. Sets that share
  data, such as label budgets of one data set, are one cluster; each cluster counts once, by the
  mean of its sets.
- A rule beats the baselines of its kind if the interval of its regret minus theirs lies below 0
  for each of them. With several rules that interval is wider, for all of them together (95 %,
  Bonferroni).

    python benchmarks/advice.py train work --photographs hymenoptera_data --minutes 60
    python benchmarks/advice.py score work --out results/advice

About three quarters of an hour on one core. `--minutes` begins no further set after so many.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from advice_sets import Sources, scoring_sets
from scipy.stats import weightedtau

import bench
from bench.methods.advice import RULES, BackboneFacts, Facts
from bench.methods.transfer_scores import TRANSFER_SCORES
from bench.results.analysis.transfer_scores import run_scores
from bench.results.grid import complete_trials

Numbers = npt.NDArray[np.float64]

BASELINES = {
    "strategies": ("always_linear_probe", "always_full"),
    "backbones": ("largest_backbone",),
}
KINDS = tuple(BASELINES)
LEAST_OPTIONS = 3
"""A rank correlation of fewer says nothing."""
RANKED_BY_RULES = ("logme", "nearest_neighbour")
"""Scores by which the rules `logme` and `knn_gain` rank already."""
DRAWS, LEVEL = 10_000, 0.95


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the sets, or score the rules on those that are trained."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    for name in ("photographs", "fashion", "movies", "amazon"):
        training.add_argument(f"--{name}", type=lambda text: Path(text).absolute())
    training.add_argument("--minutes", type=float, default=float("inf"))
    scoring = commands.add_parser("score")
    scoring.add_argument("--out", type=Path, required=True)
    for each in (training, scoring):
        each.add_argument("work", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "train":
        sources = Sources(
            photographs=given.photographs,
            fashion=given.fashion,
            movies=given.movies,
            amazon=given.amazon,
        )
        train(given.work.absolute(), sources, given.minutes)
    else:
        score(given.work, given.out)


# Training ---------------------------------------------------------------------------------------


def train(work: Path, sources: Sources, minutes: float) -> None:
    """Advice on every set, then its trials; `work/sets/NAME.json` says that both are there."""
    begun = time.monotonic()
    for each in scoring_sets(work, sources):
        if isinstance(each, str):
            print(f"left out: {each}", flush=True)
            continue
        done = work / "sets" / f"{each.name}.json"
        if done.is_file():
            continue
        if time.monotonic() - begun > 60 * minutes:
            print(f"time is over before {each.name}", flush=True)
            return
        started = time.monotonic()
        suite = {"name": each.name, **each.suite}
        facts = bench.advise(suite, out=work / "runs").facts
        run = bench.run(suite, out=work / "runs", workers=1)
        print(
            f"{each.name}: {len(complete_trials(run.trials))} of {run.num_trials} trials, "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )
        told = {"cluster": each.cluster, "kind": each.kind, "facts": asdict(facts)}
        done.parent.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps(told, indent=2), encoding="utf-8")


# What trials reached ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A set with its results. `right` is 1 where a test sample is classified rightly:
    `[backbones, strategies, seeds, samples]`, of the learning rate that is best on validation;
    `val` the accuracy there, `[backbones, strategies]`. `scores` are the transfer scores of each
    backbone that has them all."""

    name: str
    cluster: str
    kind: str
    facts: Facts
    backbones: tuple[str, ...]
    strategies: tuple[str, ...]
    right: Numbers
    val: Numbers
    scores: Mapping[str, Numbers]

    def options(self, what: str) -> tuple[tuple[str, ...], list[Numbers]]:
        """Names of what can be recommended, and whether samples are right
        `[names, seeds, samples]`: once for each backbone, or once in all."""
        if what == "strategies":
            return self.strategies, list(self.right)
        best = self.val.argmax(axis=1)
        return self.backbones, [self.right[np.arange(len(best)), best]]


def read_sets(work: Path) -> Iterator[Scored]:
    """Those that are trained; without the sets of which a trial is missing, which are told."""
    for file in sorted((work / "sets").glob("*.json")):
        told = json.loads(file.read_text(encoding="utf-8"))
        run = bench.read_run(work / "runs" / file.stem)
        trials = complete_trials(run.trials).copy()
        if len(trials) < run.num_trials:
            print(f"left out: {file.stem}, {run.num_trials - len(trials)} trials are missing")
            continue
        facts = _facts(told["facts"])
        backbones = tuple(each.backbone for each in facts.backbones)
        trials["strategy"] = trials["strategy"].str.partition("(")[0]  # without options
        strategies = tuple(dict.fromkeys(trials["strategy"]))
        right, val = _table(trials, run.predictions, backbones, strategies)
        yield Scored(
            name=file.stem,
            cluster=told["cluster"],
            kind=told["kind"],
            facts=facts,
            backbones=backbones,
            strategies=strategies,
            right=right,
            val=val,
            scores=_scores(run, backbones),
        )


def _facts(told: Mapping[str, object]) -> Facts:
    given = dict(told)
    backbones = given.pop("backbones")
    assert isinstance(backbones, list)
    return Facts(**given, backbones=tuple(BackboneFacts(**each) for each in backbones))  # type: ignore[arg-type]


def _table(
    trials: pd.DataFrame,
    predictions: pd.DataFrame,
    backbones: Sequence[str],
    strategies: Sequence[str],
) -> tuple[Numbers, Numbers]:
    seen = predictions.assign(right=predictions["label"] == predictions["predicted"])
    by_trial = seen.pivot_table(index="trial", columns="sample", values="right", aggfunc="first")
    right, val = [], []
    for backbone in backbones:
        for strategy in strategies:
            own = trials[(trials["backbone"] == backbone) & (trials["strategy"] == strategy)]
            configs = own.groupby("config", sort=False)["val_accuracy"].mean()
            chosen = own[own["config"] == configs.idxmax()].sort_values("seed")
            right.append(by_trial.loc[chosen["trial"]].to_numpy(float))
            val.append(configs.max())
    shape = len(backbones), len(strategies)
    table = np.stack(right)
    return table.reshape(*shape, *table.shape[1:]), np.reshape(val, shape)


def _scores(run: bench.Run, backbones: Sequence[str]) -> dict[str, Numbers]:
    scored = run_scores(run)
    if scored is None:
        return {}
    by_name = {each.name: each for each in scored.backbones}
    found = {}
    for score in TRANSFER_SCORES:
        values = [by_name[name].final(score) if name in by_name else None for name in backbones]
        if all(value is not None for value in values):
            found[score] = np.array(values, float)
    return found


# Regret and rank correlation --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Regret:
    """In points of accuracy: what the best option has more than the recommended one."""

    at_most: float
    crossed: float


def regret(right: Numbers, chosen: int) -> Regret:
    """Of the option `chosen` of `right[options, seeds, samples]`, as the head of this file says.

    Two seeds and two samples at least.
    """
    means = right.mean(axis=(1, 2))
    seeds = np.arange(right.shape[1])
    halves = np.arange(right.shape[2]) % 2
    crossed = []
    for seed in seeds:
        for half in (0, 1):
            chooses = right[:, seeds != seed][:, :, halves == half].mean(axis=(1, 2))
            scores = right[:, seed][:, halves != half].mean(axis=1)
            best = scores[np.isclose(chooses, chooses.max())].mean()  # of equals, their mean
            crossed.append(best - scores[chosen])
    return Regret(
        at_most=100 * float(means.max() - means[chosen]), crossed=100 * float(np.mean(crossed))
    )


def rank_correlation(
    ranking: Sequence[str], names: Sequence[str], results: Numbers
) -> float | None:
    """Weighted Kendall τ of a ranking, best first, with the results of `names`.

    None for fewer than three that both have, and where all results are the same.
    """
    both = [name for name in ranking if name in names]
    if len(both) < LEAST_OPTIONS:
        return None
    places = -np.arange(len(both), dtype=float)
    return _tau(places, np.array([results[names.index(name)] for name in both]))


def _tau(values: Numbers, results: Numbers) -> float | None:
    if len(results) < LEAST_OPTIONS or np.ptp(values) == 0 or np.ptp(results) == 0:
        return None
    return float(weightedtau(values, results).statistic)


def scored_rules(each: Scored) -> Iterator[dict[str, object]]:
    """A row for each rule, transfer score and kind of options that it speaks of."""
    for rule, says in RULES.items():
        said = says(each.facts)
        for what, ranking in (("strategies", said.strategies), ("backbones", said.backbones)):
            if ranking and _applies(each, what):
                yield _row(each, what, rule, ranking)
    if _applies(each, "backbones"):
        for score, values in each.scores.items():
            if score in RANKED_BY_RULES:
                continue
            order = np.argsort(-values, kind="stable")
            ranking = tuple(each.backbones[place] for place in order)
            yield _row(each, "backbones", f"score {score}", ranking)


def _applies(each: Scored, what: str) -> bool:
    """Whether there is a choice."""
    return len(each.options(what)[0]) > 1


def _row(each: Scored, what: str, rule: str, ranking: Sequence[str]) -> dict[str, object]:
    names, tables = each.options(what)
    first = next(name for name in ranking if name in names)
    regrets = [regret(table, names.index(first)) for table in tables]
    results = np.mean([table.mean(axis=(1, 2)) for table in tables], axis=0)
    return {
        "set": each.name,
        "cluster": each.cluster,
        "kind": each.kind,
        "of": what,
        "rule": rule,
        "recommended": first,
        "accuracy": 100 * float(results[names.index(first)]),
        "at_most": float(np.mean([one.at_most for one in regrets])),
        "crossed": float(np.mean([one.crossed for one in regrets])),
        "tau": rank_correlation(ranking, names, results),
    }


# Means over sets --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over clusters, each by the mean of its sets, with an interval; NaN of one cluster."""

    mean: float
    low: float
    high: float
    sets: int
    clusters: int


def clustered(values: Iterable[float], clusters: Iterable[str], level: float = LEVEL) -> Mean:
    """The mean of clusters, and percentiles of it over draws of clusters with replacement."""
    frame = pd.DataFrame({"value": list(values), "cluster": list(clusters)})
    means = frame.groupby("cluster")["value"].mean().to_numpy(float)
    low = high = float("nan")
    if len(means) > 1:
        drawn = np.random.default_rng(0).integers(len(means), size=(DRAWS, len(means)))
        ends = [(1 - level) / 2, (1 + level) / 2]
        low, high = map(float, np.quantile(means[drawn].mean(axis=1), ends))
    mean = float(means.mean()) if len(means) else float("nan")
    return Mean(mean=mean, low=low, high=high, sets=len(frame), clusters=len(means))


def summaries(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each rule: mean regrets, how often below a point, mean τ."""
    found = []
    for (what, rule), own in rows.groupby(["of", "rule"], sort=False):
        ranked = own.dropna(subset=["tau"])
        near = (own["at_most"] < 1).astype(float)
        found.append(
            {
                "of": what,
                "rule": rule,
                "sets": len(own),
                "clusters": own["cluster"].nunique(),
                **_named("crossed", clustered(own["crossed"], own["cluster"])),
                **_named("at_most", clustered(own["at_most"], own["cluster"])),
                "below_1_point": clustered(near, own["cluster"]).mean,
                "ranked": len(ranked),
                **_named("tau", clustered(ranked["tau"], ranked["cluster"])),
            }
        )
    return pd.DataFrame(found)


def _named(name: str, mean: Mean) -> dict[str, float]:
    return {name: mean.mean, f"{name}_low": mean.low, f"{name}_high": mean.high}


def against_baselines(rows: pd.DataFrame) -> pd.DataFrame:
    """Regret of each rule minus that of each baseline of its kind, over the sets of both."""
    found = []
    for what, baselines in BASELINES.items():
        own = rows[rows["of"] == what].pivot(index="set", columns="rule", values="accuracy")
        clusters = rows.drop_duplicates("set").set_index("set")["cluster"]
        rules = list(rows.loc[rows["of"] == what, "rule"].unique())
        others = [rule for rule in rules if rule not in baselines]
        for rule in rules:
            for baseline in baselines:
                if rule == baseline:
                    continue
                less = (own[baseline] - own[rule]).dropna()
                level = 1 - (1 - LEVEL) / len(others) if rule in others else LEVEL
                mean = clustered(less, clusters[less.index], level)
                found.append({"of": what, "rule": rule, "baseline": baseline, **asdict(mean)})
    return pd.DataFrame(found)


def beating(differences: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Of each kind the rules that are better than every baseline."""
    better = differences.assign(better=differences["high"] < 0)
    found = {}
    for what, baselines in BASELINES.items():
        own = better[(better["of"] == what) & ~better["rule"].isin(baselines)]
        every = own.groupby("rule", sort=False)["better"].all()
        found[what] = tuple(every.index[every])
    return found


# Tables -----------------------------------------------------------------------------------------


def score(work: Path, out: Path) -> None:
    """Read what is trained, and write tables into `out`."""
    sets = list(read_sets(work))
    rows = pd.DataFrame([row for each in sets for row in scored_rules(each)])
    summary, differences = summaries(rows), against_baselines(rows)
    out.mkdir(parents=True, exist_ok=True)
    accuracies(sets).to_csv(out / "accuracies.csv", index=False, float_format="%.4f")
    rows.to_csv(out / "regrets.csv", index=False, float_format="%.4f")
    summary.to_csv(out / "summary.csv", index=False, float_format="%.4f")
    differences.to_csv(out / "differences.csv", index=False, float_format="%.4f")
    text = "\n".join(report(rows, summary, differences))
    (out / "summary.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def accuracies(sets: Iterable[Scored]) -> pd.DataFrame:
    """What every cell reached, in points, and the facts that rules look at."""
    found = []
    for each in sets:
        for place, backbone in enumerate(each.facts.backbones):
            reached = each.right[place].mean(axis=2)
            for strategy, by_seed in zip(each.strategies, reached, strict=True):
                found.append(
                    {
                        "set": each.name,
                        "samples": each.facts.samples,
                        "classes": each.facts.classes,
                        "backbone": backbone.backbone,
                        "gain": each.facts.gain(backbone),
                        "strategy": strategy,
                        "accuracy": 100 * by_seed.mean(),
                        "lowest_seed": 100 * by_seed.min(),
                        "highest_seed": 100 * by_seed.max(),
                    }
                )
    return pd.DataFrame(found)


def report(rows: pd.DataFrame, summary: pd.DataFrame, differences: pd.DataFrame) -> Iterator[str]:
    """The tables as Markdown."""
    beats = beating(differences)
    for what in KINDS:
        own = rows[rows["of"] == what]
        kinds = own.drop_duplicates("set")["kind"].value_counts(sort=False)
        counted = ", ".join(f"{number} of {kind}" for kind, number in kinds.items())
        yield f"## {what.capitalize()}"
        yield ""
        yield f"{own['set'].nunique()} sets ({counted}), {own['cluster'].nunique()} clusters."
        yield ""
        yield from _summary_table(summary[summary["of"] == what])
        yield ""
        yield from _difference_table(differences[differences["of"] == what])
        yield ""
        yield f"Better than every baseline: {', '.join(beats[what]) or 'none'}."
        yield ""
        yield from _kind_table(own)
        yield ""


def _summary_table(summary: pd.DataFrame) -> Iterator[str]:
    yield "| rule | sets | clusters | regret, crossed | at most | below 1 point | weighted τ |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for _, row in summary.iterrows():
        cells = (_interval(row, "crossed", 1), _interval(row, "at_most", 1))
        near = f"{row['below_1_point']:.0%}"
        tau = f"{_interval(row, 'tau', 2)}, n = {row['ranked']}"
        cells = (*cells, near, tau if row["ranked"] else "")
        yield f"| `{row['rule']}` | {row['sets']} | {row['clusters']} | {' | '.join(cells)} |"


def _difference_table(differences: pd.DataFrame) -> Iterator[str]:
    yield "| rule | minus | sets | clusters | difference in regret |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for _, row in differences.iterrows():
        ends = f"{row['mean']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})"
        names = f"`{row['rule']}` | `{row['baseline']}`"
        yield f"| {names} | {row['sets']} | {row['clusters']} | {ends} |"


def _kind_table(rows: pd.DataFrame) -> Iterator[str]:
    """Mean regrets (crossed) by kind of data."""
    means = rows.groupby(["rule", "kind", "cluster"], sort=False)["crossed"].mean()
    table = means.groupby(["rule", "kind"], sort=False).mean().unstack("kind")
    yield f"| regret, crossed | {' | '.join(map(str, table.columns))} |"
    yield f"| --- |{' ---: |' * len(table.columns)}"
    for rule, row in table.iterrows():
        yield f"| `{rule}` | {' | '.join('' if pd.isna(v) else f'{v:.1f}' for v in row)} |"


def _interval(row: pd.Series, name: str, digits: int) -> str:
    mean, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()
