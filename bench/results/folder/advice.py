"""`advice.json`: what was told of a suite before training, and which suite and data it is of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.methods.advice import Facts, Ranking
from bench.results.folder.checks import read_json
from bench.results.folder.run import write_checked_json
from bench.system.cache import atomic_file
from bench.system.checked_json import checked_json

FILE = "advice.json"
_MEND = "have it written again by bench advise, or delete it"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What advice is of, and when it was given.

    `suite` and `dataset` are names, `suite_digest` a hash of the suite with everything filled in,
    `data` the fingerprint of the data set; `bench` and `numerics` are the versions of the package
    and of its numbers. `written` is a time (UTC); so many trials were `complete` then.
    """

    suite: str
    suite_digest: str
    dataset: str
    data: str
    bench: str
    numerics: int
    written: str
    complete: int


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a backbone is called in advice, and what tells it apart: as in transfer scores.

    Where it takes texts, it says how long they are.
    """

    name: str
    backbone: str
    weights: str
    preprocessing: str
    texts: TextLengths | None = None


@dataclass(frozen=True, kw_only=True)
class TextLengths:
    """Tokens of the training texts as a backbone cuts them: of the middle and of the longest one.

    `full` is the share of texts that have `max_length` tokens, behind which they are cut off.
    """

    median: float
    longest: int
    max_length: int
    full: float


@dataclass(frozen=True, kw_only=True)
class Range:
    """A 95 % interval of an accuracy, in fractions."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class AdvisedCell:
    """A cell of the suite: its `config`, and the seconds of all its `trials` on one worker, None if
    unknown."""

    config: str
    backbone: str
    weights: str
    strategy: str
    lr: float
    trials: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The facts, what to expect of frozen features (by backbone, and by what tells it), what each
    rule says and what each cell of the suite costs. `rule` is the one to follow, None where none
    is shown to be worth it. `path` is where it lies as JSON."""

    path: Path
    origin: Origin
    facts: Facts
    starts: tuple[Start, ...]
    expected: Mapping[str, Mapping[str, Range]]
    rules: Mapping[str, Ranking]
    rule: str | None
    cells: tuple[AdvisedCell, ...]


def write_advice(advice: Advice) -> None:
    """Write it in place of earlier advice, atomically."""
    content = asdict(advice)
    del content["path"]
    advice.path.parent.mkdir(parents=True, exist_ok=True)
    write_checked_json(advice.path, content)


def copy_advice(earlier: Path, folder: Path) -> None:
    """Keep in `folder` what was advised in another one, where something was."""
    if (earlier / FILE).is_file():
        with atomic_file(folder / FILE) as temporary:
            shutil.copyfile(earlier / FILE, temporary)


def read_advice(folder: Path) -> Advice | None:
    """That of a run folder, None without any.

    Raises `BenchError` where it is damaged, or does not say what it is of, as that of the first
    version of advice.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = read_json(path)
    except BenchError as error:
        raise BenchError(f"{error}; {_MEND}") from None
    if isinstance(content, dict) and "rules" in content and "origin" not in content:
        raise BenchError(f"{path} does not say which suite and data it is of; {_MEND}")
    try:
        if not isinstance(content, dict):
            raise ValueError("it must hold a mapping")
        advice = checked_json(Advice, json.dumps({**content, "path": str(path)}, allow_nan=False))
        if not all(isinstance(json.loads(each.preprocessing), dict) for each in advice.starts):
            raise ValueError("preprocessing must be a mapping as JSON")
        return advice
    except ValueError as error:
        raise BenchError(f"{path} is damaged ({error}); {_MEND}") from None
