"""What a run will do: every trial resolved against its data, its weights and this machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar, Unpack

import numpy as np

from bench.data import (
    AUGMENTATIONS,
    DataIssue,
    Dataset,
    TextDataset,
    format_version,
    open_with_target,
    target_task_of,
)
from bench.data.dataset import RGB, SPLIT_NOTE, TEST, UNLABELLED, VAL, ImageDataset
from bench.data.target_data import SAY_WITHOUT_LABELS
from bench.errors import (
    BenchError,
    DataError,
    PlanError,
    Problem,
    SuiteError,
    WeightsError,
    counted,
)
from bench.execution.jobs import dataset_splits, splits_key
from bench.execution.origins import used_plugins
from bench.keys import content_hash
from bench.methods.objectives import OBJECTIVES
from bench.methods.penalties import PENALTIES, feature_terms
from bench.methods.plan import Plan
from bench.methods.prompts import check_said
from bench.methods.strategies import STRATEGIES, make_plan
from bench.methods.target_tasks import (
    CLASSIFICATION,
    MULTI_LABEL,
    REGRESSION,
    TARGET_TASKS,
)
from bench.models import (
    PRETRAINED_HEAD,
    ZERO_SHOT_HEAD,
    Weights,
    check_channels,
    check_fit,
    check_image_size,
    describe_weights,
    layer_group_names,
    outline,
    takes,
    takes_size,
    text_family,
    text_length,
    usual_size,
    with_pooling,
    with_vocabulary,
)
from bench.models.image_text.folders import is_image_text
from bench.models.tensor_files import is_whole
from bench.models.text import ngrams
from bench.results.analysis.crossed import LEAST_SEEDS
from bench.results.folder import (
    RemoteFolder,
    RunStore,
    damaged_checkpoints,
    read_tuning,
    run_folder,
)
from bench.results.sample_words import SampleWords
from bench.runs.check import CheckedSuite, check_suite
from bench.runs.language_weights import describe_language_weights
from bench.runs.notes import lines, notes
from bench.runs.options import FAILED, RunKeywords, RunOptions
from bench.runs.source_weights import describe_fractal_weights
from bench.runs.threads import threads_note, with_threads
from bench.suite import (
    Entry,
    FractalWeights,
    GridRule,
    LanguageWeights,
    LoadedSuite,
    SuiteSource,
    Trial,
    WrittenTrial,
    is_selected,
    locate,
)
from bench.suite.grid import Places
from bench.system.download import OnProgress
from bench.system.machine import resolve_device
from bench.training.fits import check_available
from bench.training.precision import resolve_precision, samples_at_once
from bench.training.trial import NUMERICS_VERSION

T = TypeVar("T")

BYTES_STEP = 256
"""Texts of about one length are read in rows of one width."""

TEXTS_LOOKED_AT = 1000
"""By so many texts it is told in which script they are."""

IMAGE_FACTS = ("mean", "std", "image_size", "interpolation")
"""What may be told of weights in a file, of the images that made them."""


@dataclass(frozen=True, kw_only=True)
class ResolvedTrial:
    """A trial with everything resolved, and whether it has to be trained.

    `failure` is the error that ended an earlier attempt, where that is kept. `plugins` are the
    digests of the code from outside that it uses, by what it uses. `context` is what its id holds
    beside the trial.
    """

    id: str
    trial: Trial
    plan: Plan
    weights: Weights
    input_size: int
    precision: str
    plugins: Mapping[str, str]
    context: Mapping[str, Any]
    complete: bool = False
    reuse: bool = True
    skip_reason: str | None = None
    failure: str | None = None

    @property
    def pending(self) -> bool:
        """Whether the trial has to be trained."""
        kept = self.complete or self.failure is not None
        return self.skip_reason is None and not (kept and self.reuse)

    @property
    def stays_failed(self) -> bool:
        """Whether an earlier attempt failed and no other is made."""
        return self.failure is not None and self.skip_reason is None and not self.pending

    def with_seed(self, seed: int) -> ResolvedTrial:
        """The same with another seed, not trained yet as far as is known."""
        trial = self.trial.with_settings(seed=seed)
        return replace(self, id=trial.id(self.context), trial=trial, complete=False, failure=None)

    @property
    def needs_source_task(self) -> bool:
        """Whether its weights are still to be made from fractals."""
        return self.weights.name == "fractals" and self._lacks_weights

    @property
    def needs_sentences(self) -> bool:
        """Whether its weights are still to be made from generated sentences."""
        return self.weights.name == "language" and self._lacks_weights

    @property
    def _lacks_weights(self) -> bool:
        path = self.weights.path
        return path is None or not is_whole(path)


@dataclass(frozen=True, kw_only=True)
class FurtherSeeds:
    """The seeds after those of a suite, in the order in which a run adds them.

    It starts with `first`: the suite's, and as many more as claims need.
    """

    suite: tuple[int, ...]
    reserved: frozenset[int]

    @classmethod
    def after(cls, trials: Sequence[ResolvedTrial], *, reserved: Collection[int]) -> FurtherSeeds:
        """Those after the seeds of these trials, without the `reserved` ones."""
        seeds = sorted({each.trial.settings.seed for each in trials})
        return cls(suite=tuple(seeds), reserved=frozenset(reserved))

    def up_to(self, number: int) -> tuple[int, ...]:
        """All further seeds where a strategy has so many, the suite's among them."""
        free = (seed for seed in count(self.suite[-1] + 1) if seed not in self.reserved)
        return tuple(islice(free, max(0, number - len(self.suite))))

    @property
    def first(self) -> tuple[int, ...]:
        """What a run starts with."""
        return (*self.suite, *self.up_to(LEAST_SEEDS))

    def check(self, max_seeds: int | None) -> None:
        """Raise `BenchError` if the suite has more seeds than a strategy may have."""
        if max_seeds is not None and max_seeds < len(self.suite):
            raise BenchError(
                f"--max-seeds must not be below the {counted(len(self.suite), 'seed')} of the "
                f"suite, got {max_seeds}"
            )

    def with_started(
        self,
        trials: Sequence[ResolvedTrial],
        on_disk: Callable[[ResolvedTrial], ResolvedTrial],
        store: RunStore,
    ) -> list[ResolvedTrial]:
        """The trials with those of further seeds that a run starts with, or has trained before."""
        configs = {each.trial.config: each for each in reversed(trials)}.values()
        at_first = set(self.up_to(LEAST_SEEDS))
        found = list(trials)
        for number in count(len(self.suite) + 1):
            seed = self.up_to(number)[-1]
            added = [each.with_seed(seed) for each in configs]
            if seed not in at_first:
                added = [each for each in added if was_tried(store, each.id)]
            if not added:
                return in_order(found)
            found += map(on_disk, added)
        raise AssertionError  # the disk is finite


def was_tried(store: RunStore, trial: str) -> bool:
    """Whether a training of the trial has ended, well or not."""
    row = store.row(trial)
    return row is not None and row["status"] in ("complete", FAILED)


def in_order(trials: Iterable[ResolvedTrial]) -> list[ResolvedTrial]:
    """The trials with all seeds of a config together, as a grid has them."""
    by_config: dict[str, list[ResolvedTrial]] = {}
    for each in trials:
        by_config.setdefault(each.trial.config, []).append(each)
    return [each for own in by_config.values() for each in own]


@dataclass(frozen=True, kw_only=True)
class ResolvedRun:
    """A checked suite, resolved on this machine, with what an earlier run has finished.

    `folder` is on this machine: of a run in an object store, `remote`, the mirror. `further` is
    there where seeds are to be added until the verdict is decided, to what `selected` fits.
    `damaged` says which checkpoints of finished trials have to be made again.
    """

    loaded: LoadedSuite
    folder: Path
    device: str
    dataset: Dataset
    trials: tuple[ResolvedTrial, ...]
    issues: tuple[DataIssue, ...]
    reuse: bool = True
    remote: RemoteFolder | None = None
    further: FurtherSeeds | None = None
    selected: tuple[GridRule, ...] = ()
    damaged: tuple[str, ...] = ()

    @property
    def pending(self) -> tuple[ResolvedTrial, ...]:
        """The trials that have to be trained."""
        return tuple(resolved for resolved in self.trials if resolved.pending)

    @cached_property
    def views_of_all(self) -> frozenset[tuple[str, ...]]:
        """The views that a trial reads of all samples, as `view_read` has them."""
        trials = (resolved.trial for resolved in self.trials)
        return frozenset(view_read(trial) for trial in trials if trial.settings.shots is None)

    @property
    def failed(self) -> tuple[ResolvedTrial, ...]:
        """The trials that failed earlier and are not tried again."""
        return tuple(resolved for resolved in self.trials if resolved.stays_failed)

    @property
    def words(self) -> SampleWords:
        """What its samples are called."""
        return SampleWords(kind=self.dataset.kind, names=(self.dataset.name, *self.dataset.classes))

    @property
    def notes(self) -> list[str]:
        """What is told before anything is trained.

        That is how the data set was taken and what of it is left out, as far as that is known
        before anything is decoded, the issues, each with the number of trials concerned, what is
        damaged, and how many CPU threads a trial has, if there are several.
        """
        threads = threads_note(each.trial for each in self.trials)
        in_folds = self.trials[0].trial.settings.folds is not None
        of_data = (each for each in self.dataset.issues if not in_folds or each.kind != SPLIT_NOTE)
        of_settings = map(self.words, lines(self.issues))
        told = [*(each.message for each in of_data), *of_settings, *self.damaged]
        return told if threads is None else [*told, threads]


def view_read(trial: Trial) -> tuple[str, ...]:
    """Trials that differ in it read different views, or with different starting weights."""
    settings = trial.settings
    labels = (each.label for each in (trial.backbone, settings.weights, trial.augmentation))
    return (*labels, str(settings.image_size), settings.resize)


def resolve_run(
    suite: SuiteSource | CheckedSuite,
    *,
    progress: OnProgress | None = None,
    **options: Unpack[RunKeywords],
) -> ResolvedRun:
    """Check and resolve the suite; trains nothing.

    Raises `SuiteError` with every mistake, or another `BenchError` for the device, the data, or an
    `out` that is a URL.
    """
    given = RunOptions(**options)
    checked = check_suite(suite, given)
    folder, remote = run_folder(given.out, checked.loaded.suite.name)
    checked = with_threads(checked, given, folder)
    opened = open_suite(checked, device=given.device, progress=progress)
    resolved = [opened.resolver.resolve(trial) for trial in opened.trials]
    opened.resolver.check()
    plans = [(each.trial, each.plan, each.input_size) for each in resolved if each is not None]
    _check_folds(opened)
    _check_split_check(opened, remote)
    found = notes(opened.loaded, opened.written, plans, opened.dataset)
    store = RunStore(folder)

    def on_this_disk(each: ResolvedTrial) -> ResolvedTrial:
        return replace(
            each,
            **_earlier(store.row(each.id), given.retry),
            reuse=given.reuse,
            skip_reason=_skip_reason(each.trial, checked.selected, given.only),
        )

    trials = [on_this_disk(each) for each in resolved if each is not None]
    further = None
    if given.decide and len({each.trial.config for each in trials}) > 1:
        _check_vocabularies(trials)
        further = FurtherSeeds.after(trials, reserved=_reserved(opened.loaded, folder))
        further.check(given.max_seeds)
        trials = further.with_started(trials, on_this_disk, store)
    damaged = damaged_checkpoints(folder, [each.id for each in trials if each.complete])
    trials = [replace(each, complete=each.complete and each.id not in damaged) for each in trials]
    return ResolvedRun(
        loaded=opened.loaded,
        folder=folder,
        device=opened.device,
        dataset=opened.dataset,
        trials=tuple(trials),
        issues=(*opened.resolver.issues(), *found),
        reuse=given.reuse,
        remote=remote,
        further=further,
        selected=checked.selected,
        damaged=tuple(
            f"checkpoints/{trial}.safetensors is damaged ({problem}): its trial is trained again"
            for trial, problem in damaged.items()
        ),
    )


def _check_vocabularies(trials: Sequence[ResolvedTrial]) -> None:
    """Raise `BenchError` where a further seed would need a vocabulary that is not made."""
    for each in trials:
        name = each.trial.backbone.name
        if each.trial.fold is None or takes(name) != "text":
            continue
        if text_family(name).made_from is not None:
            raise BenchError(
                f"--decide cannot add seeds to {name} with folds, as each seed's folds have their "
                "own vocabulary: list the seeds in the suite"
            )


def _reserved(loaded: LoadedSuite, folder: Path) -> set[int]:
    """Seeds that settings were searched on: nothing is measured on them."""
    tuning = read_tuning(folder)
    searched = set() if tuning is None else set(tuning.description["seeds"])
    tune = loaded.suite.tune
    return searched if tune is None else searched | set(tune.method.seeds)


@dataclass(frozen=True, kw_only=True)
class OpenSuite:
    """A checked suite and what its trials meet: the data set, the device, the weights."""

    loaded: LoadedSuite
    written: tuple[WrittenTrial, ...]
    trials: tuple[Trial, ...]
    dataset: Dataset
    device: str
    resolver: Resolver


def open_suite(
    checked: CheckedSuite, *, device: str, progress: OnProgress | None = None
) -> OpenSuite:
    """Open the data set of the suite; raises as `resolve_run` does, resolves no trial."""
    device = resolve_device(device)
    loaded = checked.loaded
    suite = loaded.suite
    with data_errors_placed(loaded):
        dataset = open_with_target(
            suite.dataset.name, suite.dataset.options, limits=suite.limits, progress=progress
        )
    _check_task(loaded, dataset)
    places = {id(each.trial): each.places for each in checked.written}
    return OpenSuite(
        loaded=loaded,
        written=checked.written,
        trials=checked.trials,
        dataset=dataset,
        device=device,
        resolver=Resolver(loaded, dataset, device, checked.trials, places),
    )


@contextmanager
def data_errors_placed(loaded: LoadedSuite) -> Iterator[None]:
    """Say of what is wrong with the data set where the suite names it."""
    try:
        yield
    except DataError as error:
        problem = loaded.yaml_file.problem(("dataset", "path"), str(error))
        raise DataError(str(problem)) from error


def _check_task(loaded: LoadedSuite, dataset: Dataset) -> None:
    """Raise `SuiteError` where the data set does not say what the suite is to predict."""
    (task,), has = loaded.suite.settings["task"], target_task_of(dataset)
    if task == has:
        return
    if has == CLASSIFICATION.name:
        column = "target" if task == REGRESSION.name else "labels"
        message = (
            f"task {task} needs {_PREDICTED[task]} for every sample, and {dataset.name} has "
            f"{_PREDICTED[has]}: class folders say no more; a table of labels names the columns "
            f"(dataset: {{path: labels.csv, {column}: COLUMN}})"
        )
    else:
        message = f"{dataset.name} has {_PREDICTED[has]} for every sample: say task: {has}"
    raise SuiteError([loaded.yaml_file.problem(("task",), f"{message}, got task {task}")])


_PREDICTED = {
    CLASSIFICATION.name: "one class",
    REGRESSION.name: "numbers to predict",
    MULTI_LABEL.name: "labels of which several may hold",
}


def _check_folds(opened: OpenSuite) -> None:
    """Raise `SuiteError` where the data set has too few images for folds, or for what they leave.

    Without folds this is told when the splits are drawn.
    """
    dataset = opened.dataset
    problems: dict[str, Problem] = {}
    drawn = {splits_key(trial): trial for trial in opened.trials if trial.fold is not None}
    for trial in drawn.values():
        try:
            dataset_splits(trial, dataset)
        except DataError as error:
            problems.setdefault(str(error), opened.loaded.yaml_file.problem(("folds",), str(error)))
    if problems:
        raise SuiteError(list(problems.values()))


def _check_split_check(opened: OpenSuite, remote: RemoteFolder | None) -> None:
    """Raise `SuiteError` where there is no random split to compare with, or no place to keep it."""
    suite = opened.loaded.suite
    if not suite.split_check:
        return
    message = ""
    if suite.settings["folds"] == (None,) and np.isin(opened.dataset.splits, (TEST, VAL)).any():
        message = (
            "split_check needs a test split that is drawn, but the data set has its own; leave one "
            "of the two out"
        )
    elif remote is not None:
        message = "split_check needs a run folder on this machine: give another --out"
    if message:
        raise SuiteError([opened.loaded.yaml_file.problem(("split_check",), message)])


def _earlier(row: Mapping[str, Any] | None, retry: str | None) -> dict[str, Any]:
    """What is kept of an earlier attempt: its completion, or its failure.

    Without a start in its row, the trial never had a fair one: something outside of it was missing.
    """
    status = None if row is None else row["status"]
    if row is None or status != FAILED or retry == FAILED or row["started"] is None:
        return {"complete": status == "complete"}
    return {"complete": False, "failure": str(row["error"])}


def _skip_reason(trial: Trial, selected: Sequence[GridRule], only: Sequence[str]) -> str | None:
    if is_selected(trial, selected):
        return None
    return f"not selected by {' '.join(f'--only {text}' for text in only)}"


class Resolver:
    """What a trial becomes on this machine; `trials` are all that share the suite.

    `places` tells where in the suite the values of a trial stand, by the trial's `id()`.
    """

    def __init__(
        self,
        loaded: LoadedSuite,
        dataset: Dataset,
        device: str,
        trials: Sequence[Trial],
        places: Mapping[int, Places] | None = None,
    ) -> None:
        self._loaded = loaded
        self._places = places or {}
        self._dataset = dataset
        self._device = device
        self._peers = _weights_by_backbone(trials)
        self._needs_classes = any(map(_uses_classifier, trials))
        self._known: dict[tuple[Any, ...], Any] = {}
        self.problems: dict[str, Problem] = {}
        self._notes: dict[str, int] = {}

    def resolve(self, trial: Trial) -> ResolvedTrial | None:
        """The trial as one that is to be trained; None if it is wrong: see `problems`."""
        size = self._try(trial, "weights", lambda: self._input_size(trial))
        if size is None:
            return None
        weights = self._try(trial, "weights", lambda: self._normalised(trial, size))
        plan = self._try(trial, "strategy", lambda: _plan(trial))
        self._check_input(trial, size)
        self._check_class_map(trial, weights)
        self._check_file(trial, size, weights)
        if weights is None or plan is None:
            return None
        self._check_sample_weights(trial, plan)
        self._check_pairs(trial, plan)
        self._check_texts(trial, weights)
        self._check_zero_shot_head(trial, weights)
        self._check_penalties(trial, plan, weights)
        self._note_contradiction(trial, size, weights)
        self._note_unknown(trial, size, weights)
        self._note_idle(trial)
        self._note_remarks(trial)
        if self.problems:
            return None  # nothing is measured for a suite that cannot run
        key = ("precision", trial.backbone.name, trial.settings.precision, size)
        precision = self._once(
            (*key, samples_at_once(trial)),
            lambda: resolve_precision(trial, size, self._device),
        )
        context: dict[str, Any] = {
            "data": self._dataset.fingerprint,
            "stored": format_version(self._dataset),
            "weights": weights.fingerprint,
            "normalisation": (weights.mean, weights.std),
            "interpolation": weights.interpolation,
            "input_size": size,
            "precision": precision,
            "device": self._device.partition(":")[0],
            "numerics": NUMERICS_VERSION,
        }
        if weights.described is not None:
            read_by = [weights.described, weights.tokenizer]
            context["described"] = content_hash(read_by, digits=32)
        used = used_plugins(trial, plan)
        if used:
            context["plugins"] = used
        return ResolvedTrial(
            id=trial.id(context),
            trial=trial,
            plan=plan,
            weights=weights,
            input_size=size,
            precision=precision,
            plugins=used,
            context=context,
        )

    def check(self) -> None:
        """Raise `SuiteError` with all mistakes that have been gathered, which starts anew."""
        problems, self.problems = self.problems, {}
        if problems:
            raise SuiteError(list(problems.values()))

    def resolved(self, trial: Trial) -> ResolvedTrial:
        """A trial that is to be trained; raises `SuiteError`."""
        resolved = self.resolve(trial)
        self.check()
        assert resolved is not None
        return resolved

    def issues(self) -> tuple[DataIssue, ...]:
        """Notes on settings that contradict the weights."""
        return tuple(
            DataIssue(kind="weights", message=message, count=count)
            for message, count in self._notes.items()
        )

    def _try(self, trial: Trial, key: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except BenchError as error:
            self._report(trial, key, str(error))
            return None

    def _report(self, trial: Trial, key: str, message: str) -> None:
        location = self._places.get(id(trial), {}).get(key) or locate(
            self._loaded.suite, key, trial
        )
        self.problems.setdefault(message, self._loaded.yaml_file.problem(location, message))

    def _input_size(self, trial: Trial) -> int:
        """The suite's own size, else the largest that the weights ask for, else the data set's.

        All trials of the backbone are looked at, so that from_scratch sees the same samples.
        """
        if takes(trial.backbone.name) == "text":
            return self._text_length(trial)
        if trial.settings.image_size is not None:
            return trial.settings.image_size
        largest = max(self._asked_sizes(trial), default=0)
        return largest or self._size_of_the_data(trial) or usual_size(trial.backbone.name)

    def _text_length(self, trial: Trial) -> int:
        """How many tokens are seen of a text; of bytes no more than the longest text has."""
        name = trial.backbone.name
        most = text_length(name, trial.settings.max_length)
        if text_family(name).per_token == 1 or not isinstance(self._dataset, TextDataset):
            return most
        texts = self._dataset.texts
        longest = self._once(("bytes",), lambda: max(len(text.encode()) for text in texts))
        return min(most, max(ngrams.LEAST_BYTES, -(-longest // BYTES_STEP) * BYTES_STEP))

    def _size_of_the_data(self, trial: Trial) -> int:
        """The size that all samples have, if the backbone takes it and it is not huge; else 0."""
        native, usual = self._dataset.native_size, usual_size(trial.backbone.name)
        if native is None:
            return 0
        if self._dataset.kind != "image" or not usual:
            return native
        return native if native <= usual and takes_size(trial.backbone.name, native) else 0

    def _asked_sizes(self, trial: Trial) -> Iterator[int]:
        """What the weights of the backbone ask for; other trials' wrong ones are told with them."""
        for entry in self._peer_weights(trial):
            if entry.name == "fractals":
                yield entry.options["image_size"] or 0
            elif entry.name != "none":
                try:
                    yield describe_weights(trial.backbone.name, entry).input_size
                except WeightsError:
                    if entry == trial.settings.weights:
                        raise

    def _normalised(self, trial: Trial, size: int) -> Weights:
        """The trial's weights; without any, images are normalised as its peers' weights ask for."""
        weights = self._weights(trial.backbone.name, trial.settings.weights, size)
        if weights.tokenizer is not None:
            weights = self._with_vocabulary(trial, weights)
            return with_pooling(trial.backbone.name, weights, trial.settings.pooling)
        if weights.name != "none":
            return weights
        peer = next(self._peers_with_weights(trial, size), weights)
        return replace(
            weights,
            mean=peer.mean,
            std=peer.std,
            interpolation=peer.interpolation,
            unknown=peer.unknown,
        )

    def _with_vocabulary(self, trial: Trial, weights: Weights) -> Weights:
        """The weights with a vocabulary from all texts but target data and the test split, if any.

        Seeds that share the test split share the vocabulary; of folds each seed has its own.
        """
        name, dataset = trial.backbone.name, self._dataset
        if text_family(name).made_from is None or not isinstance(dataset, TextDataset):
            return weights

        def make() -> Weights:
            left = dataset.splits == UNLABELLED  # plain training knows nothing of target data
            left[dataset_splits(trial, dataset).test] = True
            texts = [text for at, text in enumerate(dataset.texts) if not left[at]]
            return with_vocabulary(name, weights, texts)

        of_split = None if trial.fold is None else splits_key(trial)
        return self._once(("vocabulary", name, of_split), make)

    def _peers_with_weights(self, trial: Trial, size: int) -> Iterator[Weights]:
        for entry in self._peer_weights(trial):
            if entry.name != "none":
                with suppress(WeightsError):  # told with the trials that have them
                    yield self._weights(trial.backbone.name, entry, size)

    def _peer_weights(self, trial: Trial) -> Sequence[Entry]:
        """The weights of all trials with the same backbone, each once."""
        return self._peers.get(trial.backbone.label, ())

    def _weights(self, backbone: str, entry: Entry, size: int) -> Weights:
        def describe() -> Weights:
            if entry.name == "language":
                return describe_language_weights(backbone, LanguageWeights(**entry.options))
            if entry.name != "fractals":
                return describe_weights(backbone, entry)
            recipe = FractalWeights(**entry.options)
            return describe_fractal_weights(backbone, recipe, image_size=size, device=self._device)

        return self._once(("weights", backbone, entry.model_dump_json(), size), describe)

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """What `make` gives; the trials of a grid ask the same things again and again."""
        if key not in self._known:
            self._known[key] = make()
        found: T = self._known[key]
        return found

    def _check_input(self, trial: Trial, size: int) -> None:
        """Whether the backbone takes what the data set has."""
        wanted, given = takes(trial.backbone.name), self._dataset.kind
        if wanted != given:
            message = f"backbone {trial.backbone.name} takes inputs of kind {wanted}"
            self._report(trial, "backbone", f"{message}, {self._dataset.name} has {given}")
            return
        if given == "text":
            self._check_text_views(trial)
            self._check_pooling(trial)
            self._note_units(trial)
        elif given != "image":
            self._check_no_views(trial, size)
        else:
            self._check_varied(trial, "image")
            self._check_channels(trial)
        settings = trial.settings
        given_sizes = [key for key in ("image_size", "max_length") if getattr(settings, key)]
        key = given_sizes[0] if given_sizes else "backbone"
        self._try(trial, key, lambda: check_image_size(trial.backbone.name, size))

    def _check_text_views(self, trial: Trial) -> None:
        """Texts have no pixels to vary, and their embeddings are all that can be mixed."""
        self._check_varied(trial, "text")
        mix = trial.augmentation.options.get("mix")
        if mix not in (None, "mixup"):
            message = f"{self._dataset.name} has texts, which {mix!r} cannot mix; use mixup"
            self._report(trial, "augmentation", message)

    def _check_varied(self, trial: Trial, kind: str) -> None:
        """Whether the augmentation is one of this kind of input."""
        name = trial.augmentation.name
        if name != "none" and AUGMENTATIONS.get(name).traits.inputs != kind:
            own = [each for each in AUGMENTATIONS if AUGMENTATIONS.get(each).traits.inputs == kind]
            valid = dict.fromkeys(["none", *own])
            message = f"augmentation {name!r} does not vary {kind}s; use one of {', '.join(valid)}"
            self._report(trial, "augmentation", message)

    def _check_pooling(self, trial: Trial) -> None:
        name, pooling = trial.backbone.name, trial.settings.pooling
        if pooling == "auto" or pooling in (known := text_family(name).poolings):
            return
        if known:
            valid = ", ".join(("auto", *known))
            self._report(
                trial, "pooling", f"pooling of {name} must be one of {valid}, got {pooling!r}"
            )
            return
        message = f"pooling {pooling!r}: no effect on {name}, which makes no vector of a text."
        self._notes[message] = self._notes.get(message, 0) + 1

    def _note_remarks(self, trial: Trial) -> None:
        """What of a text backbone's files is not as usual."""
        name = trial.backbone.name
        for remark in text_family(name).remarks(name) if takes(name) == "text" else ():
            message = f"{name}: {remark}."
            self._notes[message] = self._notes.get(message, 0) + 1

    def _note_units(self, trial: Trial) -> None:
        """What n-grams are made of, where the backbone's name leaves it to the texts."""
        name = trial.backbone.name
        if name != ngrams.NAME or not isinstance(self._dataset, TextDataset):
            return
        some = self._dataset.texts[:: 1 + len(self._dataset) // TEXTS_LOOKED_AT]
        if self._once(("unspaced",), lambda: ngrams.are_unspaced(some)):
            message = (
                f"{name} counts n-grams of characters here, as most letters are of scripts without "
                "spaces between words; tfidf/jieba counts words of Chinese, tfidf/words what "
                "stands between spaces."
            )
            self._notes[message] = self._notes.get(message, 0) + 1

    def _check_no_views(self, trial: Trial, size: int) -> None:
        """Samples that are no images are taken as they are."""
        augmentation, name = trial.augmentation, self._dataset.name
        if augmentation.name != "none" or augmentation.options.get("mix") is not None:
            message = f"{name} has no images: augmentation must be none, got {augmentation.label}"
            self._report(trial, "augmentation", message)
        if size != self._dataset.native_size:
            message = f"{name} has inputs of size {self._dataset.native_size}, got {size}"
            self._report(trial, "image_size", message)

    def _check_channels(self, trial: Trial) -> None:
        """Augmentations that change colours need some, backbones a layer that is adapted."""
        assert isinstance(self._dataset, ImageDataset)
        form = self._dataset.form
        if form.depth == RGB.depth and not form.deep:
            return
        name = trial.augmentation.name
        if AUGMENTATIONS.get(name).traits.colours:
            channels = counted(form.depth, "channel")
            depth = f"{form.bits if form.deep else 8} bits"
            traits = {each: AUGMENTATIONS.get(each).traits for each in AUGMENTATIONS}
            others = [n for n, own in traits.items() if own.inputs == "image" and not own.colours]
            self._report(
                trial,
                "augmentation",
                f"augmentation {name!r} changes hues and saturations, which only RGB images of 8 "
                f"bits have; those of {self._dataset.name} have {channels} of {depth}: use "
                f"{', '.join(others)}",
            )
        self._try(trial, "backbone", lambda: check_channels(trial.backbone.name, form.depth))

    def _check_sample_weights(self, trial: Trial, plan: Plan) -> None:
        """What cannot weigh samples is refused where the data set has weights."""
        if self._dataset.sample_weights is None or not plan.stages:
            return
        mend = "`columns: {weight: null}`, as an option of the data set, takes no notice of them"
        mix = trial.augmentation.options.get("mix")
        if mix is not None:
            message = f"{mix!r} mixes samples, and {self._dataset.name} has weights of samples"
            self._report(trial, "augmentation", f"{message}, which mixtures do not have: {mend}")
        usual = TARGET_TASKS[target_task_of(self._dataset)].objective
        name = usual if plan.objective is None else plan.objective.name
        if plan.pairs is not None or not OBJECTIVES.get(name).traits.weighs_samples:
            what = f"the objective {name!r}" if plan.pairs is None else "a comparison of pairs"
            message = f"{what} does not weigh samples"
            reason = f"{message}, and {self._dataset.name} has weights of samples: {mend}"
            self._report(trial, "strategy", reason)

    def _check_pairs(self, trial: Trial, plan: Plan) -> None:
        """Pairs are of samples that have one class each."""
        mix, name = trial.augmentation.options.get("mix"), trial.strategy.name
        if plan.pairs is not None and mix is not None:
            message = f"{mix!r} mixes samples, and strategy {name!r} compares pairs of them"
            self._report(trial, "augmentation", f"{message}: leave out one of the two")

    def _check_texts(self, trial: Trial, weights: Weights) -> None:
        """What compares samples with texts needs a network that knows them, and classes."""
        name, backbone = trial.strategy.name, trial.backbone.name
        reads = STRATEGIES.get(name).traits.reads
        if reads is None:
            return
        of_images = is_image_text(backbone)
        if not of_images and (reads == "text_tower" or takes(backbone) != "text"):
            encoder = " or a text encoder (hf/NAME)" if reads == "texts" else ""
            message = f"strategy {name!r} needs an image–text model (clip/NAME){encoder}"
            self._report(trial, "strategy", f"{message}, got {backbone}")
        elif of_images and weights.name == "fractals":
            message = f"strategy {name!r} compares images with texts"
            self._report(trial, "weights", f"{message}, which {weights.name} do not know")
        said = {key: trial.strategy.options.get(key, {}) for key in ("names", "prompts")}
        self._try(trial, "strategy", lambda: check_said(self._dataset.classes, **said))

    def _check_zero_shot_head(self, trial: Trial, weights: Weights) -> None:
        """A head that starts at texts needs both towers with their values, and classes."""
        head = trial.settings.head
        if head.name != ZERO_SHOT_HEAD:
            return
        backbone, message = trial.backbone.name, f"head {head.name!r} starts at texts of classes"
        if not is_image_text(backbone):
            reason = f"{message} and needs an image–text model (clip/NAME), got {backbone}"
            self._report(trial, "head", f"{reason}; use linear")
        elif weights.name in ("none", "fractals"):
            reason = f"{message}, which weights {weights.name!r} do not know"
            self._report(trial, "head", f"{reason}; use linear")
        elif trial.settings.task != CLASSIFICATION.name:
            reason = f"{message}, and the suite's task is {trial.settings.task}"
            self._report(trial, "head", f"{reason}; use linear")
        said = {key: head.options.get(key, {}) for key in ("names", "prompts")}
        self._try(trial, "head", lambda: check_said(self._dataset.classes, **said))

    def _check_class_map(self, trial: Trial, weights: Weights | None) -> None:
        if trial.settings.head.name != PRETRAINED_HEAD or weights is None:
            return
        name = trial.strategy.name
        if weights.classes is None:
            message = f"strategy {name!r} needs weights with a classifier of known classes"
            self._report(trial, "strategy", f"{message}, got {weights.name!r}")
        missing = set(self._dataset.classes) - set(self._dataset.class_map or {})
        if missing:
            message = f"strategy {name!r} needs dataset.class_map for every class"
            self._report(trial, "strategy", f"{message}; missing: {', '.join(sorted(missing))}")

    def _check_penalties(self, trial: Trial, plan: Plan, weights: Weights) -> None:
        """Penalties need weights with a classifier, or batches that are whole."""
        settings = trial.settings
        adapter = None if plan.adapter is None else plan.adapter.name
        cuts = {
            "micro_batch": (settings.micro_batch or settings.batch_size) < settings.batch_size,
            "devices_per_trial": settings.devices > 1,
        }
        for term in feature_terms(plan):
            traits = PENALTIES.get(term.name).traits
            if traits.needs == "source_head" and weights.classes is None:
                message = f"penalty {term.name!r} needs weights with a classifier of known classes"
                self._report(trial, "strategy", f"{message}, got {weights.name!r}")
            drawn = trial.dataset.options["unlabelled_fraction"] is not None
            if traits.of_target and not drawn and UNLABELLED not in self._dataset.splits:
                message = f"penalty {term.name!r} looks at target data without labels, and"
                mend = f"the suite has none: {SAY_WITHOUT_LABELS}"
                self._report(trial, "strategy", f"{message} {mend}")
            if traits.of_target and plan.pairs is not None:
                message = f"penalty {term.name!r} looks at single images, and the plan has pairs"
                self._report(trial, "strategy", f"{message}: leave out one of the two")
            if traits.needs == "layers" and adapter == "side_tuning":
                message = f"penalty {term.name!r} holds layers of the backbone, and side_tuning"
                self._report(trial, "strategy", f"{message} leaves them as they are: leave out one")
            for key in (key for key, cut in cuts.items() if cut and traits.over_samples is None):
                message = f"penalty {term.name!r} looks at all images of a batch together, and"
                given = f"{key} {getattr(settings, key)}"
                mend = "leave out one of the two"
                self._report(trial, key, f"{message} {given} cuts it into parts: {mend}")

    def _check_file(self, trial: Trial, size: int, weights: Weights | None) -> None:
        """Whether the tensors of a file of one's own are those of the backbone."""
        if weights is None or trial.settings.weights.name != "file":
            return
        name, whole = trial.backbone.name, _uses_classifier(trial)
        if whole and weights.classes is None:
            return  # which is told

        def misfit() -> str | None:
            try:
                check_fit(name, weights, image_size=size, with_classifiers=whole)
            except BenchError as error:
                return str(error)
            return None

        message = self._once(("fit", name, size, weights.fingerprint, whole), misfit)
        if message is not None:
            self._report(trial, "weights", f"{message} (backbone {name})")

    def _note_unknown(self, trial: Trial, size: int, weights: Weights) -> None:
        """What is used in the place of facts on a file that nobody has told."""
        used = {
            "mean": f"mean {_numbers(weights.mean)}",
            "std": f"std {_numbers(weights.std)}",
            "image_size": f"image_size {size}",
            "interpolation": f"interpolation {weights.interpolation}",
        }
        unknown = [name for name in used if name in weights.unknown]
        if not (unknown and trial.settings.weights.is_file and self._dataset.kind == "image"):
            return
        imagenet = " (of ImageNet weights)" if {"mean", "std"} & set(unknown) else ""
        example = ", ".join(f"{name}: …" for name in unknown)
        message = (
            f"{trial.backbone.name} with weights {weights.name!r}: {_listed(unknown)} of the "
            f"images that made them {'is' if len(unknown) == 1 else 'are'} not known; this suite "
            f"uses {', '.join(used[name] for name in unknown)}{imagenet}. If you know them, give "
            f"them: weights: {{file: {weights.name}, {example}}}."
        )
        self._notes[message] = self._notes.get(message, 0) + 1

    def _note_idle(self, trial: Trial) -> None:
        """Facts on a file that change nothing here."""
        entry = trial.settings.weights
        if not entry.is_file:
            return
        told = [name for name in entry.given if name in IMAGE_FACTS]
        idle = []
        if told and self._dataset.kind != "image":
            idle.append((_listed(told), f"{self._dataset.name} has no images"))
        if "classes" in entry.given and not self._needs_classes:
            idle.append(("classes", "no strategy or penalty uses the classifier in the file"))
        for what, why in idle:
            message = f"{what} of weights {entry.label!r}: no effect, {why}."
            self._notes[message] = self._notes.get(message, 0) + 1

    def _note_contradiction(self, trial: Trial, size: int, weights: Weights) -> None:
        if weights.name == "none" or weights.input_size in (0, size) or weights.tokenizer:
            return
        message = (
            f"{trial.backbone.name} with weights {weights.name!r} was trained at "
            f"{weights.input_size} px, this suite uses image_size {size}."
        )
        self._notes[message] = self._notes.get(message, 0) + 1


def _uses_classifier(trial: Trial) -> bool:
    """Whether the classifier of the weights is used, or trains by a penalty of the suite."""
    given = trial.strategy.options.get("penalty") or {}
    return trial.settings.head.name == PRETRAINED_HEAD or any(
        PENALTIES.get(name).traits.needs == "source_head" for name in given
    )


def _weights_by_backbone(trials: Sequence[Trial]) -> dict[str, list[Entry]]:
    found: dict[str, dict[str, Entry]] = {}
    for trial in trials:
        entry = trial.settings.weights
        found.setdefault(trial.backbone.label, {}).setdefault(entry.model_dump_json(), entry)
    return {backbone: list(entries.values()) for backbone, entries in found.items()}


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _plan(trial: Trial) -> Plan:
    """Raises `PlanError` where the backbone lacks what the plan adds to, or what it changes, and
    `MissingExtraError` where what fits its head is not installed."""
    name = trial.backbone.name
    plan = make_plan(trial.strategy, layer_group_names(name), trial.settings)
    fits = text_family(name).fits if takes(name) == "text" else None
    if fits is not None and (plan.stages or plan.fit is None or plan.fit.name not in fits):
        raise PlanError(
            f"{name} gives the few n-grams that a text has of very many, and no vector: strategy "
            f"{trial.strategy.name!r} cannot learn from them. Use {' or '.join(fits)}, in a cell "
            f"of its own: include: [{{backbone: {name}, strategy: {fits[0]}}}]"
        )
    if plan.fit is not None:
        check_available(plan.fit)
    if plan.adapter is not None or plan.fit is not None:
        outline(name, trial.settings.head, plan.adapter)
    if plan.stoch_norm is not None and not outline(name, trial.settings.head).norms:
        raise PlanError(f"stoch_norm needs batch norm: {name} has none")
    return plan
