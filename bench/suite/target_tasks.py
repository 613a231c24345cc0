"""What a suite cannot ask for where it predicts numbers, or several labels a sample: each with why.

The table of all that can be asked for is `docs/tasks.md`.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.suite.load import Catalogue
from bench.suite.schema import Suite, TargetTaskName, Trial
from bench.suite.yaml_file import Location

CLASSIFICATION: TargetTaskName = "classification"
REGRESSION: TargetTaskName = "regression"
PRETRAINED_HEAD = "pretrained"


def of_trial(trial: Trial, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """(key, message) of what a trial has that its target task has no meaning for."""
    settings = trial.settings
    task = settings.task
    yield from _objective(trial, catalogue)
    if task == CLASSIFICATION:
        return
    strategy = catalogue.strategy.get(trial.strategy.name).traits
    if strategy.target_tasks is not None and task not in strategy.target_tasks:
        yield (
            "strategy",
            f"strategy {trial.strategy.name!r} tells classes apart, and the suite's task is "
            f"{task}; choose another, such as ridge",
        )
    meant = "a number" if task == REGRESSION else "a label that may stand beside others"
    if PRETRAINED_HEAD in (strategy.head, settings.head.name):
        what = (
            f"strategy {trial.strategy.name!r}"
            if strategy.head == PRETRAINED_HEAD
            else f"head {PRETRAINED_HEAD!r}"
        )
        yield (
            "strategy" if strategy.head == PRETRAINED_HEAD else "head",
            f"{what} keeps the classifier of the weights, and none of its classes means {meant}: "
            f"leave it out where task is {task}",
        )
    for name in trial.strategy.options.get("penalty") or {}:
        if catalogue.penalty.get(name).traits.needs == "source_head":
            yield (
                "strategy",
                f"penalty {name!r} relates the classes of the weights to those of the images, and "
                f"none of them means {meant}: leave it out where task is {task}",
            )
    if settings.shots is not None:
        yield (
            "shots",
            f"shots keeps so many images of each class, and with task {task} "
            f"{_why_no_classes(task)}; leave it out (there is no share of the training images that "
            "could be given in its place)",
        )
    if settings.sampler == "balanced":
        yield (
            "sampler",
            f"sampler 'balanced' draws every class equally often, and with task {task} "
            f"{_why_no_classes(task)}; use shuffle"
            + (", or class_weights: balanced" if task != REGRESSION else ""),
        )
    if task == REGRESSION and settings.class_weights != "none":
        yield (
            "class_weights",
            "class_weights weighs classes, and with task regression there are none; use none",
        )
    if task == REGRESSION and settings.label_smoothing:
        yield (
            "label_smoothing",
            "label_smoothing moves the target towards all classes alike, and with task regression "
            "there are none; use 0 (the objectives mae and huber mind outliers less)",
        )


def _why_no_classes(task: TargetTaskName) -> str:
    if task == REGRESSION:
        return "there are no classes"
    return "an image may count for several labels at once, or for none"


def _objective(trial: Trial, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """An objective that is the loss of something else."""
    given = trial.strategy.options.get("objective")
    objectives, task = catalogue.objective, trial.settings.task
    if given is None or given["name"] not in objectives:
        return
    of = objectives.get(given["name"]).traits.target_task
    if of != task:
        own = [name for name in objectives if objectives.get(name).traits.target_task == task]
        yield (
            "strategy",
            f"objective {given['name']!r} is a loss of {of}, and the suite's task is {task}; "
            f"choose one of {', '.join(own)}",
        )


def of_suite(suite: Suite) -> Iterator[tuple[Location, str]]:
    """(place, message) of what the suite has as a whole that its target task has no meaning for."""
    (task,) = suite.settings["task"]
    dataset = suite.dataset
    if dataset.name in ("table", "text"):
        wanted = {REGRESSION: "target", "multi_label": "labels"}.get(task)
        if wanted is not None and dataset.options.get(wanted) is None:
            what = "the number to predict" if task == REGRESSION else "the labels of an image"
            yield (
                ("task",),
                f"task {task} needs the column with {what}, or several: give the option {wanted} "
                f"of the data set, such as dataset: {{path: FILE, {wanted}: COLUMN}}",
            )
    if task == CLASSIFICATION:
        return
    if dataset.options.get("class_map") is not None:
        yield (
            ("dataset", "class_map"),
            f"class_map names ImageNet classes that mean the same, and with task {task} none does; "
            "leave it out",
        )
    for index, entry in enumerate(suite.after):
        if entry.name == "temperature":
            yield (
                ("after", index),
                f"after 'temperature' scales the probabilities of classes that exclude each other, "
                f"and with task {task} "
                + (
                    "nothing is a probability"
                    if task == REGRESSION
                    else "each label has its own, and a threshold chosen on validation"
                )
                + "; leave it out",
            )
    if suite.tune is not None and "val_accuracy" in suite.tune.method.objective:
        yield (
            ("tune", "objective"),
            f"tune: objective val_accuracy counts classes that are right, and the suite's task is "
            f"{task}; use val_metric or val_loss",
        )
