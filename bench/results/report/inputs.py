"""How samples become inputs, in sentences: of a plan, and of a report with three of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.errors import counted
from bench.results.folder.inputs import InputRule, read_inputs
from bench.results.folder.run import Run
from bench.results.plots import INPUTS, caption
from bench.results.report.blocks import Block, Bold, Bullets, Heading, Picture, paragraph

MAX_USERS = 6
DRAWN = "Without starting weights it is drawn anew."


def inputs_section(run: Run, targets: Mapping[str, str]) -> Iterator[Block]:
    """The blocks on inputs; `targets` are the figures' files by name."""
    rules = read_inputs(run)
    if not rules and INPUTS not in targets:
        return
    yield Heading("Inputs", 3)
    if len(rules) == 1:
        yield paragraph(sentence(rules[0]))
    elif rules:
        yield Bullets(tuple((Bold(f"{_users(rule)}:"), sentence(rule)) for rule in rules))
    if rules and "inputs" not in run.data:
        yield paragraph(
            "The version of bench that made this run did not note it: this is what its checkpoints "
            "and settings say."
        )
    if INPUTS in targets:
        yield Picture(INPUTS, caption(INPUTS) or "", targets[INPUTS])


def input_sentences(rules: Sequence[InputRule]) -> list[str]:
    """A sentence for each rule, with who uses it where there are several."""
    if len(rules) == 1:
        return [f"inputs: {sentence(rules[0])}"]
    return [f"inputs of {_users(rule)}: {sentence(rule)}" for rule in rules]


def sentence(rule: InputRule) -> str:
    """What is done with a sample: size, rule, interpolation, normalisation."""
    if rule.kind == "text":
        return f"Texts as {rule.unit}, at most {rule.size:,} of each; networks see no more of it."
    if rule.kind != "image":
        return f"Vectors of length {rule.size:,}, as they are."
    return " ".join((*_channels(rule), f"{_resized(rule)}.", *_normalised(rule)))


def _channels(rule: InputRule) -> Iterator[str]:
    """What is told of images that are not made RGB."""
    if rule.channels is None:
        return
    depth = rule.bits if rule.deep else 8
    yield f"Images have {counted(rule.channels, 'channel')} of {depth} bits."
    if rule.channels == 1:
        yield (
            "The first layer of a network takes one channel: the sum of its weights for red, green "
            f"and blue. {DRAWN}"
        )
    elif rule.channels != 3:
        yield (
            f"The first layer of a network takes {rule.channels} channels: its weights for red, "
            f"green and blue in turns, times 3/{rule.channels}. {DRAWN}"
        )


def _resized(rule: InputRule) -> str:
    size = rule.size
    square = f"{size} × {size} px"
    if rule.native_size == size and rule.resized_to == size:
        return f"All images are {square} and are taken as they are"
    how = _interpolated(rule)
    if rule.resize == "squash":
        if rule.native_size is not None:
            which = f"All images are squares of {rule.native_size} px and are"
        else:
            which = "All images are squares and are" if rule.squares else "Each image is"
        stretched = "" if rule.squares or rule.native_size else ", whatever its aspect ratio"
        return f"{which} resized to {square}{how}{stretched}; nothing is cropped"
    if rule.resize == "pad":
        return (
            f"The longer side of each image is resized to {size} px{how}, and black fills the "
            f"{square}; nothing is cropped"
        )
    if rule.resize == "crop":
        return _cropped(rule, square, how)
    return f"Networks see {square}; how images were resized to it is not known"


def _cropped(rule: InputRule, square: str, how: str) -> str:
    stored = rule.resized_to
    to = "image_size / 0.875" if stored is None else f"{stored} px"
    share = 0.875**2 if stored is None else (rule.size / stored) ** 2
    return (
        f"The shorter side of each image is resized to {to}{how}, and networks see the central "
        f"{square}: {100 * share:.0f} % of the area of a square image, less of others; "
        "resize: squash or resize: pad keeps all of it"
    )


def _interpolated(rule: InputRule) -> str:
    if rule.interpolation is None:
        return ""
    antialiased = "" if rule.interpolation == "nearest" else ", antialiased"
    return f" ({rule.interpolation}{antialiased})"


def _normalised(rule: InputRule) -> Iterator[str]:
    if not (rule.mean and rule.std):
        return
    yield (
        f"Values in [0, 1] are normalised with mean {_numbers(rule.mean)} and std "
        f"{_numbers(rule.std)} {_for_what(rule)}."
    )
    unknown = [name for name in ("mean", "std") if name in rule.unknown]
    if unknown:
        yield (
            f"The {' and '.join(unknown)} of the weights {'is' if len(unknown) == 1 else 'are'} "
            "not known; those of ImageNet weights are used."
        )


def _for_what(rule: InputRule) -> str:
    if rule.channels in (None, 3):
        return "for red, green and blue"
    if rule.channels == 1:
        return "(the means of those for red, green and blue)"
    return "(those for red, green and blue in turns)"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _users(rule: InputRule) -> str:
    more = len(rule.used_by) - MAX_USERS
    return ", ".join(rule.used_by[:MAX_USERS]) + (f" and {more} more" if more > 0 else "")
