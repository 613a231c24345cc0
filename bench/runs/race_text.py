"""What a race says of itself: a line after each look, and one at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.errors import counted
from bench.results.analysis import Comparison, Verdict
from bench.results.report.wording import at_size_text, rounded_up, seeds_text
from bench.runs.decide import Step, Why
from bench.runs.time_estimate import duration

MAX_NAMES = 6

STOPPED: dict[Why, str] = {
    "worse": "shown to be worse",
    "as good": "shown to be as good",
    "left out": "left out by --only",
    "images": "open, but seeds cannot settle it",
    "seeds": "open with the largest number of seeds",
}


def start_text(suite: Sequence[int], first: Sequence[int], limit: int) -> str:
    """What a race begins with."""
    few = len(first) - len(suite)
    text = f"--decide: starts with {seeds_text(len(first))}"
    if few:
        text += (
            f" ({', '.join(map(str, first[-few:]))} added: the suite has {seeds_text(len(suite))}, "
            f"and nothing can be said about strategies with fewer than {len(first)})"
        )
    return f"{text}, then adds seeds to the strategies that are still open, up to {limit}"


def round_text(verdict: Verdict, step: Step, trainings: int, seconds: float | None) -> str:
    """Who goes on after a look, who stops and why, and about how long it takes."""
    long = "" if seconds is None else f", about {duration(seconds)}"
    number = counted(trainings, "training")
    text = f"{_look(verdict)}: {_named(step.racing)} go on to {step.seeds} seeds ({number}{long})"
    stopped = "; ".join(_stopped(step))
    return f"{text}; stopped: {stopped}" if stopped else text


def end_text(verdict: Verdict, step: Step, counts: tuple[int, int, int]) -> str:
    """Whether it is decided, or what is missing; and what was saved.

    `counts` are trainings, those with as many seeds for all as one has, and how many seeds that is.
    """
    trained, whole, most = counts
    saved = (
        f" {counted(trained, 'training')}; {seeds_text(most)} for all would be {whole}."
        if trained
        else ""
    )
    return f"{_look(verdict)}: {_end(verdict, step)}{saved}"


def _look(verdict: Verdict) -> str:
    """What is compared is said where it is not strategies, and with how many training images."""
    of = "" if verdict.axis == "strategy" else f" of {verdict.axis}"
    size = "" if verdict.size is None else f" {at_size_text(verdict.size)}"
    return f"look {verdict.look}{of}{size}"


def _end(verdict: Verdict, step: Step) -> str:
    best, names = verdict.recommended, _named(verdict.open)
    if step.ended == "decided":
        stopped = "; ".join(_stopped(step))
        return f"decided: {best}; {stopped}."
    if step.ended == "none":
        return "not decided: none can be recommended."
    if step.ended == "failed":
        return f"not decided: no further training of {best} and {names} was completed."
    left = f"not decided: {names} {'is' if len(verdict.open) == 1 else 'are'} open against {best}"
    if step.ended == "minutes":
        return f"{left}; --minutes leaves no time for more seeds; the same command adds them."
    if step.ended == "left out":
        return f"{left}; --only leaves no further seeds."
    rivals = [verdict.rivals[name] for name in verdict.open]
    have = seeds_text(max(len(each.seeds) for each in rivals))
    if step.ended == "seeds":
        have += ", the most that --max-seeds allows"
    return f"{left} with {have}: {_missing(verdict, rivals)}."


def _missing(verdict: Verdict, rivals: Sequence[Comparison]) -> str:
    """What would settle it: at best, of the open one that takes least."""
    samples = max(each.samples for each in rivals)
    if samples < 2:
        return "they have no predictions of the same test images"
    known = [needs for each in rivals if (needs := verdict.needs(each)) is not None]
    seeds = min((each.seeds[0] for each in known if each.seeds[0] is not None), default=None)
    images = min((each.samples[0] for each in known if each.samples[0] is not None), default=None)
    split = "" if images is None else f"a test split of about {rounded_up(images):,} images"
    if seeds is not None:
        more = f"it takes {counted(rounded_up(seeds), 'more seed')} at best"
        return f"{more}, or {split} (it has {samples:,})" if split else more
    if split:
        return f"no number of seeds is enough, but {split} might be (it has {samples:,})"
    return "neither more seeds nor more test images alone are enough"


def _stopped(step: Step) -> Iterator[str]:
    """`a and b (shown to be worse)`."""
    for why, text in STOPPED.items():
        names = [name for name, own in step.stopped.items() if own == why]
        if names:
            yield f"{_named(names)} ({text})"


def _named(names: Sequence[str]) -> str:
    shown = list(names[:MAX_NAMES])
    if len(names) > MAX_NAMES:
        shown.append(f"{len(names) - MAX_NAMES} more")
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))
