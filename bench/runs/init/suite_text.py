"""The suite as text: every choice with the reason for it, and the summary for the terminal."""

from __future__ import annotations

import math
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.data import CROP_MARGIN, DATASETS
from bench.errors import counted
from bench.methods.target_tasks import MULTI_LABEL, REGRESSION
from bench.runs.init.backbone import TEXT_BASELINE
from bench.runs.init.choose import MANY_IMAGES, ChosenGrid
from bench.runs.init.comments import WIDTH, comment, item, printable, quoted, short_name
from bench.runs.init.examine import MEASURED, Examined, wilson_half_width
from bench.runs.init.fit import Proposal
from bench.runs.time_estimate import duration

SHOWN_CLASSES, SHOWN_ISSUES = 20, 6
FEW_TO_CHOOSE_BY = 100
"""Validation samples; with fewer the choice of the epoch is mentioned."""
SHOTS = 50
VOTE_FACTOR = 5
"""Between the rates of a vote, as in FewTrans."""
FEW_LABELS = 10
"""Labelled samples of a class; with fewer a vote over learning rates is mentioned."""


def suite_text(found: Examined, proposal: Proposal, *, path: Path, name: str, dataset: str) -> str:
    """The file: `path` is where it goes, `name` the suite's name, `dataset` the folder's path."""
    settings = settings_text(
        found, proposal.grid, name=None if name == path.stem else name, dataset=dataset
    )
    return "\n".join(_header(found, proposal, path)) + "\n\n" + settings


def settings_text(found: Examined, chosen: ChosenGrid, *, name: str | None, dataset: str) -> str:
    """The suite without its header; `name` is None where it is that of the file."""
    blocks = [
        [
            *([f"name: {quoted(name)}"] if name is not None else []),
            *([] if found.has_classes else [f"task: {found.task}"]),
            *_dataset(found, dataset),
        ],
        list(_network(found, chosen)),
        list(_strategies(chosen)),
        list(_variation(found, chosen)),
        list(_training(found, chosen)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def summary(found: Examined, proposal: Proposal, *, path: Path) -> str:
    """What was found and chosen, in a few lines."""
    return "\n".join(_summary(found, proposal, path))


# The header -----------------------------------------------------------------------------------


def _header(found: Examined, proposal: Proposal, path: Path) -> Iterator[str]:
    suite = shlex.quote(str(path))
    yield from comment(f"bench run {suite}")
    yield "#"
    yield from comment(
        "Written by `bench init`: proposals for what it found, with the reason above each. "
        f"`bench plan {suite}` checks this file and says how long it will take."
    )
    yield "#"
    yield "# Found"
    yield from (f"#   {line}".rstrip() for line in _table(found))
    for text in _found(found):
        yield from item(text)
    yield "#"
    yield "# How sure a result can be"
    for text in _certainty(found, balanced=proposal.grid.balanced):
        yield from item(text)
    yield "#"
    yield "# What runs"
    yield from item(_work(found, proposal.grid))
    yield from item(f"It takes {_time(found, proposal)}.")
    if found.has_classes:
        yield from item(f"{proposal.outlook(found.total('test'))}.")
    yield from item(_more(found, proposal))


def _table(found: Examined) -> Iterator[str]:
    """Images of each class and split; of many classes the largest and the smallest."""
    train = found.counts["train"]
    names, half = list(train), SHOWN_CLASSES // 2
    if len(names) > SHOWN_CLASSES:
        ordered = sorted(names, key=lambda name: -train[name])
        names = [*ordered[:half], *ordered[-half:]]
    total = f"all {_counted(found)}"
    width = max(len(text) for text in (*map(short_name, names), total))
    yield f"{'':{width}}" + "".join(f"{split:>9}" for split in found.counts)
    for position, name in enumerate(names):
        if position == half and len(names) < len(train):
            yield "…"
        cells = (f"{counts[name]:>9,}" for counts in found.counts.values())
        yield f"{short_name(name):{width}}" + "".join(cells)
    yield f"{total:{width}}" + "".join(f"{found.total(split):>9,}" for split in found.counts)


def _counted(found: Examined) -> str:
    """What the rows of the table count."""
    nouns = {REGRESSION.name: "range", MULTI_LABEL.name: "combination"}
    if found.has_classes:
        return f"{len(found.counts['train'])} classes"
    return counted(len(found.counts["train"]), nouns[found.task])


def _found(found: Examined) -> Iterator[str]:
    if not found.has_classes:
        yield _predicted(found)
    if len(found.sizes):
        yield _sizes(found)
    if len(found.lengths):
        yield _lengths(found)
    yield from (issue.message for issue in found.issues)
    if any(issue.kind.startswith("leakage") for issue in found.issues):
        yield (
            f"{found.noun.capitalize()}s on both sides of a split make a test accuracy too good: "
            "remove one of each pair."
        )
    yield _machine(found)


def _predicted(found: Examined) -> str:
    """What the table seems to say of a sample."""
    (option, columns), names = next(iter(found.outputs.items())), found.outputs_named
    given = columns if isinstance(columns, str) else ", ".join(columns)
    if found.task == REGRESSION.name:
        return (
            f"Column {short_name(given)!r} holds numbers of many values: they are predicted as "
            f"such. If they are names of classes, take out `task` and `{option}`."
        )
    shown = ", ".join(map(short_name, names[:SHOWN_CLASSES])) + (
        f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
    )
    one = _a(found.noun).capitalize()
    return f"{one} may have several of {counted(len(names), 'label')}: {shown}."


def _a(noun: str) -> str:
    return f"{'an' if noun == 'image' else 'a'} {noun}"


def _lengths(found: Examined) -> str:
    middle, large, most = (int(np.quantile(found.lengths, share)) for share in (0.5, 0.95, 1))
    return (
        f"Median length {middle} tokens, 95% of the texts have at most {large}, the longest {most}."
    )


def _sizes(found: Examined) -> str:
    sizes = found.sizes
    areas = sizes.prod(axis=1)
    smallest, largest = (f"{w} × {h}" for w, h in (sizes[areas.argmin()], sizes[areas.argmax()]))
    width, height = np.median(sizes, axis=0).astype(int)
    sample = f" (of {MEASURED} images measured)" if len(sizes) == MEASURED else ""
    text = f"Median size {width} × {height} pixels, smallest {smallest}, largest {largest}{sample}."
    if (sizes[:, 0] == sizes[:, 1]).all():
        return f"{text} All are squares: networks see all of them."
    share = CROP_MARGIN**2 * np.median(sizes.min(axis=1) / sizes.max(axis=1))
    return (
        f"{text} Networks see the middle, about {share:.0%} of the median image; "
        "`resize: pad` would show all of it."
    )


def _machine(found: Examined) -> str:
    machine, precision = found.machine, found.precision
    native = "as bf16 is not native to it" if precision == "fp32" else "which it computes natively"
    device = "the CPU" if found.device == "cpu" else f"{machine['device_name']} ({found.device})"
    return (
        f"This machine: {machine['cpu']}, {counted(machine['cores'], 'core')}, "
        f"{machine['memory_gib']} GiB of memory. It trains on {device} in {precision}, {native}."
    )


def _certainty(found: Examined, *, balanced: bool) -> Iterator[str]:
    num_test, num_val = found.total("test"), found.total("val")
    if not found.has_classes:
        yield from _certainty_of_outputs(found)
        return
    largest, count = max(found.counts["test"].items(), key=lambda pair: pair[1])
    yield (
        f"{counted(num_test, f'test {found.noun}')}: an accuracy of 90% is known to about "
        f"{_half_width(num_test)} (half of the 95% Wilson score interval); one "
        f"{found.noun} is {100 / num_test:.2g} points. All strategies see the same test "
        f"{found.noun}s, so a difference is usually surer than either."
    )
    if balanced:
        worth = found.balanced_test_samples
        yield (
            f"A balanced accuracy of 90% is known to about {_half_width(worth)}: for it, these "
            f"{found.noun}s count as much as {worth:.0f} {found.noun}s in classes of equal size. "
            f"Differences of it show if they are {math.sqrt(num_test / worth):.1f} times as large "
            "as those below."
        )
    yield f"Always answering {short_name(largest)!r} would be right for {count / num_test:.0%}."
    if num_val < FEW_TO_CHOOSE_BY:
        few = counted(num_val, f"validation {found.noun}")
        yield f"The epoch is chosen on {few}, so chance plays a part in that choice."


def _certainty_of_outputs(found: Examined) -> Iterator[str]:
    num_test, num_val = found.total("test"), found.total("val")
    tested = counted(num_test, f"test {found.noun}")
    if found.task == REGRESSION.name:
        share = 1.96 / math.sqrt(2 * num_test)
        yield (
            f"{tested}: a root mean squared error is known to about ± {share:.0%} of itself (95%, "
            f"for errors like normal ones). All strategies see the same test {found.noun}s, so a "
            "difference is usually surer than either."
        )
    else:
        yield (
            f"{tested}, and of rare labels far fewer: their average precision hangs on a handful "
            f"of {found.noun}s. All strategies see the same test {found.noun}s, so a difference is "
            "usually surer than either."
        )
    if num_val < FEW_TO_CHOOSE_BY:
        yield (
            f"The epoch is chosen on {counted(num_val, f'validation {found.noun}')}, so chance "
            "plays a part in that choice."
        )


def _half_width(samples: float) -> str:
    return f"± {100 * wilson_half_width(0.9, samples):.1f} points"


def _work(found: Examined, chosen: ChosenGrid) -> str:
    factors = (
        (len(chosen.strategies), "strategies"),
        (len(chosen.schedules), "schedules" if len(chosen.schedules) > 1 else "schedule"),
        (len(chosen.seeds), "seeds"),
    )
    grid = " × ".join(f"{count} {what}" for count, what in factors)
    more = "" if chosen.baseline is None else f", and {len(chosen.seeds)} of the baseline"
    epochs = chosen.num_epochs
    return (
        f"{chosen.num_trials} trials ({grid}{more}) of {chosen.epochs} epochs: {epochs:,} epochs, "
        f"{epochs * _num_train(found, chosen):,} {found.noun}s to train on."
    )


def _num_train(found: Examined, chosen: ChosenGrid) -> int:
    """Samples that a trial trains on."""
    counts = found.counts["train"].values()
    return sum(counts if chosen.shots is None else (min(chosen.shots, each) for each in counts))


def _time(found: Examined, proposal: Proposal) -> str:
    text = f"about {duration(proposal.seconds)} of training on this machine ({found.device})"
    if proposal.fits:
        return text
    return f"{text}, longer than the {proposal.minutes:g} min asked for: no smaller grid is useful"


def _more(found: Examined, proposal: Proposal) -> str:
    longer = max(60, math.ceil(proposal.minutes) * 6)
    folder = shlex.quote(str(found.folder))
    return (
        f"More: bench init {folder} --minutes {longer} --force proposes a grid for {longer} "
        "minutes; bench run with --decide adds seeds to what is still open; smaller differences "
        f"than these need more test {found.noun}s."
    )


# The settings ---------------------------------------------------------------------------------


def _dataset(found: Examined, dataset: str) -> Iterator[str]:
    yield "dataset:"
    yield f"  name: {found.reader}"
    if not dataset.startswith("/"):
        yield "  # A relative path starts at the folder that this file lies in."
    yield f"  path: {quoted(dataset)}"
    if found.splits is not None:
        yield from comment(
            "The report tells what holds on each test set. To test on one of them alone, name its "
            "folder as test: FOLDER.",
            indent="  ",
        )
        yield "  splits:"
        for split, folder in found.splits.items():
            if isinstance(folder, str):
                yield f"    {split}: {quoted(folder)}"
                continue
            yield f"    {split}:"
            yield from (f"      {quoted(name)}: {quoted(own)}" for name, own in folder.items())
    yield from _suspected(found)
    for option, columns in found.outputs.items():
        names = [columns] if isinstance(columns, str) else columns
        shown = ", ".join(map(quoted, names))
        yield f"  {option}: {shown if isinstance(columns, str) else f'[{shown}]'}"
    if found.groups:
        yield from comment(
            f"{found.noun.capitalize()}s of one of the {found.groups:,} groups, such as "
            f"{_GROUPS[found.noun]}, are alike: none of them is on both sides of a split, or a "
            f"network could know the group. Without this line, {found.noun}s are drawn one by one.",
            indent="  ",
        )
        yield "  split: {by: group}"
    defaults = DATASETS.get(found.reader).options(path="").model_dump()
    what = {"folder": "folder", "table": "table"}.get(found.reader, "data set")
    each = "each class" if found.has_classes else f"each {_counted(found).split()[-1].rstrip('s')}"
    reasons = {
        "test": f"The {what} has no test split: this fraction of {each} becomes it, the same "
        "for every seed.",
        "val": f"The {what} has no split to choose the epoch by: this fraction of the remaining "
        f"{found.noun}s of {each} becomes it, drawn separately for every seed.",
    }
    for split in found.drawn:
        yield from comment(reasons[split], indent="  ")
        yield f"  {split}_fraction: {defaults[f'{split}_fraction']}"


def _suspected(found: Examined) -> Iterator[str]:
    """The option that finds groups in names; in a comment where it is a suspicion."""
    suspicion = found.suspicion
    if suspicion is None:
        return
    if suspicion.sure:
        yield from comment(f"{suspicion.why}. Without this line, there are no groups.", indent="  ")
        yield f"  group: {quoted(suspicion.pattern)}"
        return
    yield from comment(
        f"{suspicion.why}. If images of a group are alike, such as those of a patient, take the # "
        "off these lines: no group is on both sides then.",
        indent="  ",
    )
    yield f"  # group: {quoted(suspicion.pattern)}"
    if found.drawn:
        yield "  # split: {by: group}"


_GROUPS = {"image": "a patient", "text": "an author"}


def _network(found: Examined, chosen: ChosenGrid) -> Iterator[str]:
    if found.noun == "text":
        yield from _text_network(found, chosen)
        return
    size = (
        "A common size to compare with, fast on a GPU"
        if found.device.startswith("cuda")
        else "Small enough for a machine without a CUDA GPU (with one: resnet50, vit_b_16)"
    )
    yield from comment(f"{size}. To compare others, each of which adds {chosen.num_trials} trials:")
    yield f"# backbone: [{', '.join((chosen.backbone, *chosen.others))}]"
    yield f"backbone: {chosen.backbone}"
    yield from comment(
        "From ImageNet, downloaded once. Without a network: {file: PATH} for a state dict that you "
        "have, or fractals, which pretrains on generated images here and takes a while:"
    )
    yield "# weights: fractals"
    yield "weights: imagenet"
    if chosen.image_size is not None and not len(found.sizes):
        yield f"image_size: {chosen.image_size}"
    elif chosen.image_size is not None and 2 * chosen.image_size < 3 * np.median(
        found.sizes.min(axis=1)
    ):
        ratio = (chosen.weights_size / chosen.image_size) ** 2
        yield from comment(
            f"Smaller than the {chosen.weights_size} px of the weights, for {ratio:.1f} times less "
            "computation, as time is short. Larger inputs are often more accurate:"
        )
        yield f"# image_size: [{chosen.image_size}, {chosen.weights_size}]"
        yield f"image_size: {chosen.image_size}"
    elif chosen.image_size is not None:
        short = np.median(found.sizes.min(axis=1))
        ratio = (chosen.weights_size / chosen.image_size) ** 2
        yield from comment(
            f"The images are small (median shorter side {short:.0f} px): at the "
            f"{chosen.weights_size} px of the weights, most of a picture would be interpolation, "
            f"for {ratio:.1f} times the computation. It can be more accurate all the same:"
        )
        yield f"# image_size: [{chosen.image_size}, {chosen.weights_size}]"
        yield f"image_size: {chosen.image_size}"


def _text_network(found: Examined, chosen: ChosenGrid) -> Iterator[str]:
    yield from comment(
        "A small encoder of English sentences, with its weights (84 MB, fetched once). Any encoder "
        "of transformers by its name on the Hugging Face hub or in a folder is hf/NAME or hf/PATH; "
        f"for other languages hf/xlm-roberta-base. Each adds {len(chosen.strategies)} × "
        f"{len(chosen.seeds)} trials:"
    )
    if not found.latin:
        yield from comment(
            "Most letters here are not Latin: this encoder knows few of these words, and one of "
            "their language, such as hf/bert-base-chinese, will know more."
        )
    yield f"# backbone: [{', '.join((chosen.backbone, *chosen.others))}]"
    yield f"backbone: {chosen.backbone}"
    assert chosen.max_length is not None
    cut = int((found.lengths > chosen.max_length).sum())
    yield from comment(
        f"Tokens of a text that the network sees: {cut:,} of {len(found.lengths):,} texts lose "
        "their end. Attention costs more with every one:"
    )
    if chosen.max_length < chosen.weights_size:
        yield f"# max_length: [{chosen.max_length}, {chosen.weights_size}]"
    yield f"max_length: {chosen.max_length}"


def _strategies(chosen: ChosenGrid) -> Iterator[str]:
    yield "strategy:"
    for why, entry in chosen.strategies:
        yield from comment(why, indent="  ")
        yield f"  - {entry}"
    if chosen.baseline is not None:
        needs = ' (pip install "bench[probes]")' if chosen.baseline == "logistic" else ""
        yield from comment(
            f"The baseline without a network, in seconds: n-grams weighted by TF-IDF{needs}. What "
            "does not beat it is not worth its training."
        )
        yield "include:"
        yield f"  - {{backbone: {TEXT_BASELINE}, strategy: {chosen.baseline}}}"


def _variation(found: Examined, chosen: ChosenGrid) -> Iterator[str]:
    if found.noun == "text":
        yield from comment(
            "Small steps while the new layer is arbitrary, then large ones, small ones at the end."
        )
        yield f"schedule: {chosen.schedules[0]}"
        yield from comment(
            "Texts as they are. To compare with words left out or exchanged at random (EDA):"
        )
        yield "# augmentation: [none, word_deletion, word_swap]"
        yield "augmentation: none"
        return
    if len(chosen.schedules) == 1:
        yield from comment(
            "Large steps first, small ones at the end. To compare, for twice the trials:"
        )
        yield "# schedule: [cosine, constant]"
        yield f"schedule: {chosen.schedules[0]}"
    else:
        yield from comment("Large steps first and small ones at the end, or all of one size.")
        yield f"schedule: [{', '.join(chosen.schedules)}]"
    yield from comment(
        "Random crops and mirror images; none if mirroring changes a class (letters, left and "
        "right) or a number (angles, places). To compare stronger variation:"
    )
    yield "# augmentation: [flip_crop, standard, trivial_augment]"
    yield "augmentation: flip_crop"


def _training(found: Examined, chosen: ChosenGrid) -> Iterator[str]:
    num_train = _num_train(found, chosen)
    steps = math.ceil(num_train / chosen.batch_size)
    yield from comment(
        f"{counted(num_train, f'training {found.noun}')} in batches of {chosen.batch_size}: "
        f"{counted(steps, 'step')} an epoch, {steps * chosen.epochs:,} in all. The epoch that is "
        "best on the validation split counts."
    )
    yield f"batch_size: {chosen.batch_size}"
    yield f"epochs: {chosen.epochs}"
    if chosen.shots is not None:
        yield from comment(f"To fit the time, this many training {found.noun}s of each class:")
        yield f"shots: {chosen.shots}"
    elif num_train >= MANY_IMAGES:
        yield from comment(f"For a first look, this many training {found.noun}s of each class:")
        yield f"# shots: {min(SHOTS, *found.counts['train'].values())}"
    yield from comment(
        "For strategies without an lr of their own above: small steps keep what the weights know."
    )
    yield f"lr: {chosen.lr:g}"
    if found.noun == "text":
        yield from comment("As transformers are fine-tuned; plain SGD hardly moves them.")
        yield "optimizer: adamw"
        yield "weight_decay: 0.01"
    yield from _vote(found, chosen)
    if chosen.balanced:
        yield from comment(_why_balanced(found))
        yield "class_weights: balanced"
        yield from comment(_why_metric(found))
        yield "# metric: macro_f1"
        yield "metric: balanced_accuracy"
    yield from comment(
        f"Repetitions show how much is luck: the order of the {found.noun}s, the new layer, the "
        "augmentation" + (", the validation split." if found.drawn else ".")
    )
    yield f"seed: [{', '.join(map(str, chosen.seeds))}]"


def _vote(found: Examined, chosen: ChosenGrid) -> Iterator[str]:
    """Instead of a choice by validation, where the samples that are drawn for it are very few."""
    if "val" not in found.drawn:
        return
    train, val = found.counts["train"], found.counts["val"]
    least = min(train, key=lambda name: train[name] + val[name])
    labelled = train[least] + val[least]
    if labelled >= FEW_LABELS:
        return
    yield from comment(
        f"{short_name(least)!r} has {counted(labelled, found.noun)} to train on and to choose by. "
        f"{val[least]} of them cannot say which epoch or rate is best, and are missing in "
        "training. With these three lines, and a val_fraction of 0 above, all of them train, at "
        "three rates that vote; the first one stands for the strategy. A strategy with an lr of "
        "its own needs a list of its own:"
    )
    yield "# after: vote"
    yield "# choose: last"
    yield f"# lr: [{chosen.lr:g}, {chosen.lr / VOTE_FACTOR:g}, {chosen.lr * VOTE_FACTOR:g}]"


def _why_balanced(found: Examined) -> str:
    train = found.counts["train"]
    small, large = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
    return (
        f"{short_name(large)!r} has {train[large]:,} training {found.noun}s, "
        f"{found.imbalance:.1f} times as many as {short_name(small)!r} ({train[small]:,}): "
        "unweighted, the loss would hardly notice rare classes."
    )


def _why_metric(found: Examined) -> str:
    test = found.counts["test"]
    largest = max(test, key=test.__getitem__)
    return (
        f"It chooses the epoch and ranks the strategies. Accuracy counts every {found.noun} alike: "
        f"always answering {short_name(largest)!r} would be right for "
        f"{test[largest] / found.total('test'):.0%}. Balanced accuracy is the mean recall over "
        "the classes: every class counts alike, as in the weighted loss. It hardly notices when a "
        f"few of many {found.noun}s are mistaken for a rare class; if such false alarms are as bad "
        "as misses:"
    )


# The summary ----------------------------------------------------------------------------------


def _summary(found: Examined, proposal: Proposal, path: Path) -> Iterator[str]:
    chosen = proposal.grid
    splits = ", ".join(f"{found.total(split):,} {split}" for split in found.counts)
    classes = len(found.counts["train"])
    what = f"{classes} classes" if found.has_classes else _outputs(found)
    yield f"found {what} in {short_name(found.folder.name)}; {found.noun}s: {splits}"
    for issue in found.issues[:SHOWN_ISSUES]:
        yield textwrap.shorten(f"note: {printable(issue.message)}", 2 * WIDTH, placeholder=" …")
    if len(found.issues) > SHOWN_ISSUES:
        yield f"note: {len(found.issues) - SHOWN_ISSUES} more in the suite file"
    if chosen.balanced:
        yield (
            f"the largest class is {found.imbalance:.1f} times the smallest: the loss is weighted, "
            "and balanced accuracy chooses"
        )
    if found.has_classes:
        tested = found.balanced_test_samples if chosen.balanced else found.total("test")
        of = "a balanced accuracy" if chosen.balanced else "an accuracy"
        yield f"{of} of 90% on the test {found.noun}s is known to about {_half_width(tested)}"
    size = (
        f"ImageNet weights at {chosen.image_size or chosen.weights_size} px"
        if chosen.max_length is None
        else f"its weights at {chosen.max_length} tokens"
    )
    yield (f"chose {chosen.backbone} with {size}, to train on {found.device} in {found.precision}")
    names = [re.findall(r"\w+", entry.removeprefix("{name: "))[0] for _, entry in chosen.strategies]
    if chosen.baseline is not None:
        names.append(f"{chosen.baseline} on {TEXT_BASELINE}")
    yield f"strategies: {', '.join(names)}"
    yield f"{chosen.num_trials} trials of {chosen.epochs} epochs: {_time(found, proposal)}"
    if found.has_classes:
        yield proposal.outlook(found.total("test"))
    longer = max(60, math.ceil(proposal.minutes) * 6)
    yield f"for a larger grid: --minutes {longer}; for more seeds where it is open: run --decide"


def _outputs(found: Examined) -> str:
    """What is predicted, in words."""
    if found.task == REGRESSION.name:
        return f"numbers to predict ({', '.join(map(short_name, found.outputs_named))})"
    labels = counted(len(found.outputs_named), "label")
    return f"{labels}, of which {_a(found.noun)} may have several,"
