"""What a run will do: every trial resolved against its data, its weights and this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from bench.data import DataIssue, ImageDataset, open_dataset
from bench.data.images.prepared import FORMAT_VERSION
from bench.errors import BenchError, Problem, SuiteError
from bench.methods.plan import Plan
from bench.methods.strategies import STRATEGIES
from bench.models import (
    PRETRAINED_HEAD,
    Weights,
    check_image_size,
    describe_weights,
    layer_group_names,
)
from bench.models.tensor_files import is_whole
from bench.results.folder import RemoteFolder, RunStore, run_folder
from bench.runs.catalogue import catalogue
from bench.runs.notes import lines, notes
from bench.runs.source_weights import describe_fractal_weights
from bench.suite import (
    Entry,
    FractalWeights,
    GridRule,
    LoadedSuite,
    Trial,
    WrittenTrial,
    distinct,
    load_suite,
    locate,
    matches,
    selection,
    written_trials,
)
from bench.system.download import OnProgress
from bench.system.machine import resolve_device
from bench.training.precision import resolve_precision
from bench.training.trial import NUMERICS_VERSION

T = TypeVar("T")

FAILED = "failed"
"""The status of a trial that has ended with an error, and what `--retry` may ask for."""


@dataclass(frozen=True, kw_only=True)
class ResolvedTrial:
    """A trial with everything resolved, and whether it has to be trained.

    `failure` is the error that ended an earlier attempt, where that is kept.
    """

    id: str
    trial: Trial
    plan: Plan
    weights: Weights
    image_size: int
    precision: str
    complete: bool
    reuse: bool
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

    @property
    def needs_source_task(self) -> bool:
        """Whether its weights are still to be made from fractals."""
        path = self.weights.path
        return self.weights.name == "fractals" and not (path is not None and is_whole(path))


@dataclass(frozen=True, kw_only=True)
class ResolvedRun:
    """A checked suite, resolved on this machine, with what an earlier run has finished.

    `folder` is on this machine: of a run in an object store, `remote`, the mirror.
    """

    loaded: LoadedSuite
    folder: Path
    device: str
    dataset: ImageDataset
    trials: tuple[ResolvedTrial, ...]
    issues: tuple[DataIssue, ...]
    reuse: bool = True
    remote: RemoteFolder | None = None

    @property
    def pending(self) -> tuple[ResolvedTrial, ...]:
        """The trials that have to be trained."""
        return tuple(resolved for resolved in self.trials if resolved.pending)

    @property
    def failed(self) -> tuple[ResolvedTrial, ...]:
        """The trials that failed earlier and are not tried again."""
        return tuple(resolved for resolved in self.trials if resolved.stays_failed)

    @property
    def notes(self) -> list[str]:
        """The issues as lines, each with the number of trials that it concerns."""
        return lines(self.issues)


def resolve_run(
    suite: Path,
    *,
    out: str | Path,
    device: str = "auto",
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    reuse: bool = True,
    retry: str | None = None,
    progress: OnProgress | None = None,
) -> ResolvedRun:
    """Check and resolve the suite; trains nothing.

    A trial that failed stays so unless `retry` is "failed", or what it lacked was outside of it.
    Raises `SuiteError` with every mistake, or another `BenchError` for the device, the data, or an
    `out` that is a URL.
    """
    if retry not in (None, FAILED):
        raise BenchError(f"--retry must be {FAILED}, got {retry!r}")
    names = catalogue()
    selected = selection(only, names)
    opened = open_suite(suite, device=device, overrides=overrides, progress=progress)
    resolved = [opened.resolver.resolve(trial) for trial in opened.trials]
    opened.resolver.check()
    plans = [(fields["trial"], fields["plan"], fields["image_size"]) for fields in resolved]
    found = notes(opened.loaded, opened.written, plans, opened.dataset)
    folder, remote = run_folder(out, opened.loaded.suite.name)
    store = RunStore(folder)
    return ResolvedRun(
        loaded=opened.loaded,
        folder=folder,
        device=opened.device,
        dataset=opened.dataset,
        trials=tuple(
            ResolvedTrial(
                **fields,
                **_earlier(store.row(fields["id"]), retry),
                reuse=reuse,
                skip_reason=_skip_reason(fields["trial"], selected, only),
            )
            for fields in resolved
        ),
        issues=(*opened.resolver.issues(), *found),
        reuse=reuse,
        remote=remote,
    )


@dataclass(frozen=True, kw_only=True)
class OpenSuite:
    """A checked suite and what its trials meet: the data set, the device, the weights."""

    loaded: LoadedSuite
    written: tuple[WrittenTrial, ...]
    trials: tuple[Trial, ...]
    dataset: ImageDataset
    device: str
    resolver: Resolver


def open_suite(
    suite: Path, *, device: str, overrides: Sequence[str] = (), progress: OnProgress | None = None
) -> OpenSuite:
    """Check the suite and open its data set; raises as `resolve_run` does, resolves no trial."""
    names = catalogue()
    device = resolve_device(device)
    loaded = load_suite(suite, names, overrides)
    written = written_trials(loaded, names)
    trials = distinct(written)
    dataset = open_dataset(
        loaded.suite.dataset.name, loaded.suite.dataset.options, progress=progress
    )
    return OpenSuite(
        loaded=loaded,
        written=tuple(written),
        trials=tuple(trials),
        dataset=dataset,
        device=device,
        resolver=Resolver(loaded, dataset, device, trials),
    )


def _earlier(row: Mapping[str, Any] | None, retry: str | None) -> dict[str, Any]:
    """What is kept of an earlier attempt: its completion, or its failure.

    Without a start in its row, the trial never had a fair one: something outside of it was missing.
    """
    status = None if row is None else row["status"]
    if row is None or status != FAILED or retry == FAILED or row["started"] is None:
        return {"complete": status == "complete"}
    return {"complete": False, "failure": str(row["error"])}


def _skip_reason(trial: Trial, selected: Sequence[GridRule], only: Sequence[str]) -> str | None:
    if not selected or any(matches(trial, rule) for rule in selected):
        return None
    return f"not selected by {' '.join(f'--only {text}' for text in only)}"


class Resolver:
    """What a trial becomes on this machine; `trials` are all that share the suite."""

    def __init__(
        self, loaded: LoadedSuite, dataset: ImageDataset, device: str, trials: Sequence[Trial]
    ) -> None:
        self._loaded = loaded
        self._dataset = dataset
        self._device = device
        self._peers = _weights_by_backbone(trials)
        self._known: dict[tuple[Any, ...], Any] = {}
        self.problems: dict[str, Problem] = {}
        self._notes: dict[str, int] = {}

    def resolve(self, trial: Trial) -> dict[str, Any]:
        """The fields of the resolved trial; mistakes are gathered in `problems`."""
        size = self._try(trial, "weights", lambda: self._image_size(trial))
        if size is None:
            return {"id": "", "trial": trial}
        weights = self._try(trial, "weights", lambda: self._normalised(trial, size))
        plan = self._try(trial, "strategy", lambda: _plan(trial))
        self._check_image_size(trial, size)
        self._check_class_map(trial, weights)
        if weights is None or plan is None:
            return {"id": "", "trial": trial}
        self._note_contradiction(trial, size, weights)
        if self.problems:
            return {"id": "", "trial": trial}  # nothing is measured for a suite that cannot run
        precision = self._once(
            ("precision", trial.backbone.name, trial.settings.precision, size),
            lambda: resolve_precision(trial, size, self._device),
        )
        context = {
            "data": self._dataset.fingerprint,
            "images": FORMAT_VERSION,
            "weights": weights.fingerprint,
            "normalisation": (weights.mean, weights.std),
            "image_size": size,
            "precision": precision,
            "device": self._device.partition(":")[0],
            "numerics": NUMERICS_VERSION,
        }
        return {
            "id": trial.id(context),
            "trial": trial,
            "plan": plan,
            "weights": weights,
            "image_size": size,
            "precision": precision,
        }

    def check(self) -> None:
        """Raise `SuiteError` with all mistakes that have been gathered, which starts anew."""
        problems, self.problems = self.problems, {}
        if problems:
            raise SuiteError(list(problems.values()))

    def resolved(self, trial: Trial) -> ResolvedTrial:
        """A trial that is to be trained; raises `SuiteError`."""
        fields = self.resolve(trial)
        self.check()
        return ResolvedTrial(**fields, complete=False, reuse=True)

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
        location = locate(self._loaded.suite, key, trial)
        self.problems.setdefault(message, self._loaded.yaml_file.problem(location, message))

    def _image_size(self, trial: Trial) -> int:
        """The suite's own size, else the largest that the weights ask for, else the images'.

        All trials of the backbone are looked at, so that from_scratch sees the same images.
        """
        if trial.settings.image_size is not None:
            return trial.settings.image_size
        asked = [
            entry.options["image_size"] or 0
            if entry.name == "fractals"
            else describe_weights(trial.backbone.name, entry).input_size
            for entry in self._peer_weights(trial)
            if entry.name != "none"
        ]
        largest = max(asked, default=0)
        if largest == 0 and self._dataset.native_size is not None:
            return self._dataset.native_size
        return largest or describe_weights(trial.backbone.name, Entry(name="none")).input_size

    def _normalised(self, trial: Trial, size: int) -> Weights:
        """The trial's weights; without any, images are normalised as its peers' weights ask for."""
        weights = self._weights(trial.backbone.name, trial.settings.weights, size)
        if weights.name != "none":
            return weights
        peers = (
            self._weights(trial.backbone.name, entry, size)
            for entry in self._peer_weights(trial)
            if entry.name != "none"
        )
        peer = next(peers, weights)
        return replace(weights, mean=peer.mean, std=peer.std)

    def _peer_weights(self, trial: Trial) -> Sequence[Entry]:
        """The weights of all trials with the same backbone, each once."""
        return self._peers.get(trial.backbone.label, ())

    def _weights(self, backbone: str, entry: Entry, size: int) -> Weights:
        def describe() -> Weights:
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

    def _check_image_size(self, trial: Trial, size: int) -> None:
        key = "image_size" if trial.settings.image_size is not None else "backbone"
        self._try(trial, key, lambda: check_image_size(trial.backbone.name, size))

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

    def _note_contradiction(self, trial: Trial, size: int, weights: Weights) -> None:
        if weights.name == "none" or weights.input_size == size:
            return
        message = (
            f"{trial.backbone.name} with weights {weights.name!r} was trained at "
            f"{weights.input_size} px, this suite uses image_size {size}."
        )
        self._notes[message] = self._notes.get(message, 0) + 1


def _weights_by_backbone(trials: Sequence[Trial]) -> dict[str, list[Entry]]:
    found: dict[str, dict[str, Entry]] = {}
    for trial in trials:
        entry = trial.settings.weights
        found.setdefault(trial.backbone.label, {}).setdefault(entry.model_dump_json(), entry)
    return {backbone: list(entries.values()) for backbone, entries in found.items()}


def _plan(trial: Trial) -> Plan:
    groups = layer_group_names(trial.backbone.name)
    strategy = STRATEGIES.get(trial.strategy.name)
    return strategy.function(groups, trial.settings.epochs, **trial.strategy.options)
