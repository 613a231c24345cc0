"""What a grid asks for and what has to be done for it: epochs and floating-point operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bench.data import CENTRAL, Samples, Splits, samples_digest, view_name
from bench.errors import counted as in_words
from bench.execution.jobs import Job
from bench.methods.penalties import aligns
from bench.methods.plan import HEAD, Stage
from bench.models.flops import epoch_flops, group_flops
from bench.system.lru_folder import LruFolder
from bench.training.freezing import adapts_behind, epoch_start, moving_groups
from bench.training.frozen_features import reads_whole_views, view_key, viewed_samples
from bench.training.label_free import judged_samples
from bench.training.stacked_heads import stack_key
from bench.training.state import state_cache


@dataclass(frozen=True, kw_only=True)
class CountedTrial:
    """A trial to be counted: its splits, and how many samples the data set has as a whole."""

    job: Job
    complete: bool
    input_size: int
    num_classes: int
    splits: Splits
    all: int

    @property
    def train(self) -> int:
        """Samples of the training split."""
        return len(self.splits.train)

    def derived(self, stage: Stage) -> int:
        """Samples whose loss an epoch of the stage derives: to train, and to measure rates before
        that; with what trains pass as many of target data where the plan looks at these."""
        plan = self.job.plan
        rows, batches = plan.rows(self.train), plan.gradient_batches or 0
        moves_trunk = set(moving_groups(self.job.outline, stage)) - {HEAD}
        beside = rows if aligns(plan) and moves_trunk else 0
        return rows + min(rows, batches * self.job.trial.settings.batch_size) + beside

    @property
    def evaluated(self) -> int:
        """Samples that are looked at after an epoch: to validate, and to fit a head before that."""
        return self.val + (0 if self.job.plan.fit is None else self.train)

    @property
    def val(self) -> int:
        """Samples of the validation split."""
        return len(self.splits.val)

    @property
    def test(self) -> int:
        """Samples that are looked at once: to test, and without labels for validators."""
        seed = self.job.trial.settings.seed
        return len(self.splits.test) + len(judged_samples(self.splits.unlabelled, seed=seed))


@dataclass(frozen=True, kw_only=True)
class EpochWork:
    """One epoch that is trained once: for `job`, under `stage`.

    Where `boundary` is given it starts at the activations there, and `views` samples go through the
    groups in front of it for the first time.
    """

    counted: CountedTrial
    stage: Stage
    boundary: str | None
    views: int


@dataclass(kw_only=True)
class Work:
    """Epochs of trials: asked for, and where they come from; operations asked for and done.

    `asked` = `earlier` (complete trials, and states that an earlier run left) + `tree` (shared with
    another trial) + `trained`; of those, `features` start at activations of a frozen trunk.
    """

    asked: int = 0
    earlier: int = 0
    tree: int = 0
    trained: int = 0
    features: int = 0
    flops_asked: int = 0
    flops_done: int = 0
    epoch_work: list[EpochWork] = field(default_factory=list)

    def and_then(self, later: Work) -> Work:
        """Both, one after the other."""
        return Work(**{name: value + getattr(later, name) for name, value in vars(self).items()})

    def plain(self) -> dict[str, Any]:
        """The numbers, and the sentence."""
        numbers = {name: value for name, value in vars(self).items() if name != "epoch_work"}
        return {**numbers, "sentence": self.sentence()}

    def sentence(self) -> str:
        """The work in words, true before and after the run."""
        on_features = f" ({self.features:,} of them on kept features)" if self.features else ""
        parts = [f"{in_words(self.asked, 'trial-epoch')}: {self.trained:,} trained{on_features}"]
        if self.tree:
            parts.append(f"{self.tree:,} shared with another trial")
        if self.earlier:
            parts.append(f"{self.earlier:,} from earlier runs")
        return f"{', '.join(parts)}. {self._saving()}"

    def _saving(self) -> str:
        """What sharing saves; the first of few trials on a frozen trunk may pay for it."""
        done, asked = (f"{flops / 1e12:,.2f}" for flops in (self.flops_done, self.flops_asked))
        if done == asked:
            return f"The work is {asked} TFLOP; sharing saves none of it."
        if self.flops_done > self.flops_asked:
            return (
                f"The work is {done} TFLOP; without sharing it would be {asked}, because kept "
                "features pay off only when they are used again."
            )
        share = self.flops_done / self.flops_asked
        return f"Sharing cuts the work to {done} of {asked} TFLOP ({100 * share:.0f} %)."


def count_work(trials: Sequence[CountedTrial], *, reuse: bool, from_cache: bool = True) -> Work:
    """Count `trials`, in the order of the grid; `from_cache`: epochs that are kept are done."""
    total = Work()
    seen: set[str] = set()
    views: set[str] = set()
    tested: set[str] = set()
    states = state_cache()
    for counted in trials:
        job = counted.job
        asked = _alone(counted)
        total.asked += job.plan.epochs
        total.flops_asked += asked
        if counted.complete:
            total.earlier += job.plan.epochs
            continue
        if not reuse:
            total.trained += job.plan.epochs
            total.flops_done += asked
            total.epoch_work += _alone_work(counted)
            continue
        saved = _saved_epochs(job, states) if from_cache else 0
        for epoch, key in enumerate(job.keys[1:]):
            if epoch < saved:
                total.earlier += 1
            elif key in seen:
                total.tree += 1
            else:
                total.trained += 1
                work = _epoch_work(counted, epoch, views)
                total.features += work.boundary is not None
                total.flops_done += _done(work)
                total.epoch_work.append(work)
            seen.add(key)
        if job.keys[-1] not in tested:  # trials that end in one state are tested once
            fits = job.plan.fits_at_once
            total.flops_done += _fit(counted, views) if fits else _test(counted)
        tested.add(job.keys[-1])
    return total


def _saved_epochs(job: Job, states: LruFolder) -> int:
    """How many epochs the deepest state of an earlier run has; heads always start anew."""
    found = (e for e in range(job.plan.epochs, 0, -1) if states.holds(job.keys[e]))
    saved = next(found, 0)
    return saved if saved > job.head_epochs else 0


def _epoch_work(counted: CountedTrial, epoch: int, seen: set[str]) -> EpochWork:
    job = counted.job
    boundary, pristine = epoch_start(job.outline, job.plan, epoch)
    stage = job.plan.stage_at(epoch)
    if boundary is None or not pristine:
        return EpochWork(counted=counted, stage=stage, boundary=None, views=0)
    views = _fresh_views(counted, boundary, epoch, seen)
    return EpochWork(counted=counted, stage=stage, boundary=boundary, views=views)


def _fresh_views(counted: CountedTrial, boundary: str, epoch: int, seen: set[str]) -> int:
    """Samples of views that nobody has looked at before."""
    fresh = 0
    for key, samples in _views(counted, boundary, epoch):
        if key not in seen:
            fresh += samples
        if key is not None:
            seen.add(key)
    return fresh


def _views(counted: CountedTrial, boundary: str, epoch: int) -> Iterator[tuple[str | None, int]]:
    """(key, samples) of the views that an epoch looks at, and of those that are looked at once.

    What the trunk makes of mixed batches is not kept: it has no key, or that of the heads which
    train on it together (of those that are too many for one stack, as if they were not).
    """
    job, splits = counted.job, counted.splits
    augmentation, settings = job.trial.augmentation, job.trial.settings
    varied = view_name(augmentation, seed=settings.seed, epoch=epoch)
    parts = _parts(splits, settings.seed)
    looked_at = [(name, CENTRAL) for name in parts if name != "train" and len(parts[name])]
    if augmentation.options.get("mix") is None:
        looked_at.append(("train", varied))
    elif epoch < job.head_epochs:
        stack = stack_key(
            job.trunk_key,
            settings,
            augmentation,
            fold=job.trial.fold,
            train_samples=counted.train,
        )
        yield f"{stack} {settings.seed} {settings.sampler} {epoch}", counted.train
    else:
        yield None, counted.train
    bare = adapts_behind(job.outline, boundary)
    trunk_key = job.bare_trunk_key if bare else job.trunk_key
    for part, view in looked_at:
        whole = reads_whole_views(settings, varies=varied != CENTRAL, beside_all=job.beside_all)
        digest, samples = _viewed(splits, settings.seed, part, counted.all, whole)
        yield view_key(trunk_key, boundary, view, digest), samples


def _parts(splits: Splits, seed: int) -> dict[str, Samples]:
    """The splits by name, and what validators look at."""
    return {**splits.named(), "unlabelled": judged_samples(splits.unlabelled, seed=seed)}


@lru_cache(maxsize=1024)
def _viewed(splits: Splits, seed: int, part: str, of: int, whole: bool) -> tuple[str, int]:
    """(digest, number) of the samples that are computed together with those of a part."""
    viewed = viewed_samples(_parts(splits, seed)[part], of=of, whole=whole)
    return samples_digest(viewed), len(viewed)


def _done(work: EpochWork) -> int:
    counted = work.counted
    flops = _flops(counted)
    trained = moving_groups(counted.job.outline, work.stage) & flops.keys()
    total = epoch_flops(
        flops,
        trained,
        from_boundary=work.boundary is not None,
        train_samples=counted.derived(work.stage),
        eval_samples=counted.evaluated,
    )
    if work.boundary is not None:
        total += work.views * _before(work.boundary, flops)
    return total


def _fit(counted: CountedTrial, seen: set[str]) -> int:
    """A head that is fitted looks at all splits once; what it does with features costs nothing."""
    return _fresh_views(counted, HEAD, 0, seen) * _before(HEAD, _flops(counted))


def _before(boundary: str, flops: Mapping[str, int]) -> int:
    names = list(flops)
    return sum(flops[name] for name in names[: names.index(boundary)])


def _alone(counted: CountedTrial) -> int:
    """Operations of the trial if it shares nothing: all of its network, in every epoch."""
    flops, shape = _flops(counted), counted.job.outline
    total = _test(counted)
    if counted.job.plan.fits_at_once:
        total += counted.evaluated * sum(flops.values())
    for stage in counted.job.plan.stages:
        total += stage.epochs * epoch_flops(
            flops,
            moving_groups(shape, stage) & flops.keys(),
            from_boundary=False,
            train_samples=counted.derived(stage),
            eval_samples=counted.evaluated,
        )
    return total


def _alone_work(counted: CountedTrial) -> Iterator[EpochWork]:
    for stage in counted.job.plan.stages:
        for _ in range(stage.epochs):
            yield EpochWork(counted=counted, stage=stage, boundary=None, views=0)


def _test(counted: CountedTrial) -> int:
    return counted.test * sum(_flops(counted).values())


def _flops(counted: CountedTrial) -> Mapping[str, int]:
    job, size = counted.job, counted.input_size
    return group_flops(job.trial.backbone.name, size, counted.num_classes, job.plan.adapter)
