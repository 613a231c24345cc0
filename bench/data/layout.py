"""Which folders are splits, which are classes: by their structure first, then by their names.

A folder of class folders and a folder of split folders look the same from outside, and what is
taken for the other is a task that trains well and means nothing. So names in any usual spelling
(`Training`, `test_set`, `seg_pred`, `valid2017`) count only together with what lies inside, what
was taken for what is told, and where two readings are possible, none is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.data.dataset import SPLIT_NAMES, TEST, TRAIN, UNASSIGNED, VAL, naming
from bench.data.files import (
    FolderIds,
    SampleFiles,
    files_in,
    folder_ids,
    name_text,
    sample_id,
    subfolders,
)
from bench.errors import DataError, counted, nearest
from bench.system.visible_text import reading

UNLABELLED = 3
"""Beside the splits: samples whose labels are not there."""

WORDS: Mapping[str, int] = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), TRAIN),
    **dict.fromkeys(
        ("val", "valid", "validate", "validation", "dev", "eval", "evaluate", "evaluation"), VAL
    ),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), TEST),
    **dict.fromkeys(
        ("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "inference",
         "submission"),
        UNLABELLED,
    ),
}  # fmt: skip
"""What a word in a folder's name says of its samples."""

FILLERS = frozenset({
    "set", "sets", "data", "dataset", "datasets", "image", "images", "img", "imgs", "folder",
    "split", "samples", "the", "my", "of", "for",
})  # fmt: skip
"""Words that say nothing; glued to another one, as in `trainset`, they are taken off."""

PLAIN_NAMES = frozenset({"train", "val", "valid", "validation", "test"})
"""Names that leave no doubt, so that nobody is told how they were taken."""

ALIKE = 2
"""Folders that share so many names of folders inside are no classes without a word on it."""

ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"})


@dataclass(frozen=True, kw_only=True)
class ClassFolder:
    """A folder with samples of one class in one split (or UNASSIGNED), and in which test set."""

    path: Path
    name: str
    split: int
    test_set: str = ""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the folders below a root are.

    `parents` hold class folders, by split. `unlabelled` folders have samples without labels,
    `unused` ones are something else. `taken` says what was taken for what, if that is not plain.
    """

    class_folders: tuple[ClassFolder, ...]
    parents: Mapping[int, tuple[Path, ...]]
    unlabelled: tuple[Path, ...] = ()
    unused: tuple[Path, ...] = ()
    taken: str | None = None


GivenSplits = Mapping[str, str | Mapping[str, str]]
"""The folder of each split; of test a mapping names those of several test sets."""


class SeveralTestSetsError(DataError):
    """A folder holds several test splits, which the option `splits` can name as test sets."""

    def __init__(self, root: Path, splits: GivenSplits) -> None:
        names = list(splits["test"])
        super().__init__(
            f"{root} holds {'two' if len(names) == 2 else len(names)} test splits, "
            f"{' and '.join(names)}; name them in the suite as test sets, as an option of the data "
            f"set: `splits: {_option(splits)}`, or name one of them: `test: FOLDER`"
        )
        self.splits = splits


def find_layout(root: Path, given: GivenSplits | None = None, *, samples: SampleFiles) -> Layout:
    """What the folders below `root` are; `given` names the folder of each split, and `{}` says that
    there are none. Which files are `samples` is said by these.

    Raises `DataError` where that cannot be known, with all readings that are possible.
    """
    tree = _Tree(root, samples)
    if not tree.folders:
        files = files_in(root)
        count = sum(map(tree.is_sample, files))
        archives = [path.name for path in files if path.suffix.lower() in ARCHIVES]
        unpack = f"; unpack {naming(sorted(archives))} first" if archives else ""
        raise DataError(
            f"{root} holds {counted(count, samples.noun)} but no class folders; put the "
            f"{samples.noun}s of each class into a folder named after it ({root / 'CLASS'}){unpack}"
        )
    if given is not None:
        return _as_given(tree, given) if given else _flat(tree)
    return _by_train(tree) or _by_other_splits(tree) or _inside_classes(tree) or _as_classes(tree)


def target_test_folders(
    root: Path, classes: Collection[str], *, samples: SampleFiles
) -> tuple[ClassFolder, ...]:
    """The class folders of the test split of target data, whose other samples need no folders.

    `classes` are those of the data set that trains, as they are compared. Nothing is tested where
    no folder of `root` is called test, or ants/test. Raises `DataError` where a test folder does
    not have just these classes, and where folders bear the names of some classes alone.
    """
    tree = _Tree(_unwrapped(root, classes, samples), samples)
    try:
        layout = find_layout(tree.root, samples=samples)
    except SeveralTestSetsError:
        raise
    except DataError:  # no layout of class folders: which need not be there
        layout = None
    if layout is not None and {reading(each.name) for each in layout.class_folders} == set(classes):
        return tuple(each for each in layout.class_folders if each.split == TEST)
    tests = [path for path in tree.filled() if _may_be_test(path) and _reading(path) not in classes]
    if len(tests) > 1:
        raise DataError(
            f"{tree.root} holds several folders that may be the test split, {tree.shown(tests)}: "
            "keep one of them, as `test`"
        )
    for path in tests:
        inner = [each for each in tree.inner(tree.descend(path)) if tree.holds_samples(each)]
        if {_reading(each) for each in inner} != set(classes):
            found = naming([name_text(each.name) for each in inner]) or "none"
            raise DataError(
                f"the test folder of target data must have a folder for each class "
                f"({naming(sorted(classes))}), but {path} has {found}; {samples.noun}s without "
                f"labels go to another folder, such as {tree.root / 'unlabelled'}"
            )
        return tuple(_class_folders(tree.descend(path), inner, TEST))
    _refuse_some_classes(tree, set(classes))
    return ()


def _unwrapped(root: Path, classes: Collection[str], samples: SampleFiles) -> Path:
    """Past folders that hold one folder and nothing else, whose name says nothing."""
    seen: FolderIds = frozenset()
    while True:
        seen |= folder_ids(root)
        inner = subfolders(root, seen)
        if len(inner) != 1 or any(map(samples.is_one, files_in(root))):
            return root
        if split_of_name(inner[0].name) is not None or _reading(inner[0]) in classes:
            return root
        root = inner[0]


def _may_be_test(folder: Path) -> bool:
    return split_of_name(folder.name) == TEST and is_plain_split_name(folder.name)


def _refuse_some_classes(tree: _Tree, classes: set[str]) -> None:
    """Folders with the names of some classes, and not of all: are they of another task?"""
    named = {_reading(path): path for path in tree.filled()}
    missing = sorted(classes - set(named))
    if missing and (shared := [path for key, path in named.items() if key in classes]):
        raise DataError(
            f"target data must have the classes of the data set, or no class folders, but "
            f"{tree.root} has {tree.shown(shared)} and not {naming(missing)}; put "
            f"{tree.samples.noun}s without labels into a folder of another name, such as "
            f"{tree.root / 'unlabelled'}"
        )


def split_of_name(name: str) -> int | None:
    """The split that a folder's name speaks of, `UNLABELLED`, or None; see `WORDS`."""
    found = {WORDS[word] for word in _words(name) if word in WORDS}
    if found == {TRAIN, VAL}:  # `train_val`: all that is not the test split
        return TRAIN
    if UNLABELLED in found:
        return UNLABELLED
    return found.pop() if len(found) == 1 else None


def is_plain_split_name(name: str) -> bool:
    """Whether the name speaks of a split and of nothing else, unlike `bullet_train`."""
    words = _words(name)
    return split_of_name(name) is not None and all(w in WORDS or w in FILLERS for w in words)


def _words(name: str) -> list[str]:
    """The words of a name in any spelling: `TrainSet`, `01_train-set`, `TRAINSET`, `train2017`."""
    name = re.sub(r"(?i)(hold|held)[\W_]+out", r"\1out", name)
    camel = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+", name)
    plain = re.findall(r"[^\W\d_]+", name.lower())
    for words in ([word.lower() for word in camel], plain):
        bare = [_without_filler(word) for word in words if len(word) > 1]
        if any(word in WORDS for word in bare):
            return bare
    return plain


def _without_filler(word: str) -> str:
    for filler in sorted(FILLERS, key=len, reverse=True):
        if word.removesuffix(filler) in WORDS:
            return word.removesuffix(filler)
    return word


def _reading(folder: Path) -> str:
    return reading(name_text(folder.name))


class _Tree:
    """The two upper levels of folders below a root."""

    def __init__(self, root: Path, samples: SampleFiles) -> None:
        self.root = root
        self.samples = samples
        self._above = folder_ids(root)
        self.folders = subfolders(root, self._above)
        self.split = {path: split_of_name(path.name) for path in self.folders}
        self._inner: dict[Path, list[Path]] = {}
        self._holds: dict[Path, bool] = {}

    def inner(self, folder: Path) -> list[Path]:
        """The folders in one of `folders`, or in what `descend` has made of it."""
        if folder not in self._inner:
            self._inner[folder] = subfolders(folder, self._above)
        return self._inner[folder]

    def is_sample(self, path: Path) -> bool:
        """Whether the file is one of the samples of the data set."""
        return self.samples.is_one(path)

    def holds_samples(self, folder: Path) -> bool:
        """Whether there is a sample anywhere in the folder."""
        if folder not in self._holds:
            self._holds[folder] = self.samples.below(folder, self._above)
        return self._holds[folder]

    def filled(self, *, but: Sequence[Path] = ()) -> list[Path]:
        """Those of `folders` that hold samples."""
        return [path for path in self.folders if path not in but and self.holds_samples(path)]

    def readings(self, folder: Path) -> set[str]:
        """The names of the folders inside, as they are compared."""
        return {_reading(path) for path in self.inner(folder)}

    def shown(self, folders: Sequence[Path]) -> str:
        """Their paths below the root, for a message."""
        return naming([sample_id(self.root, path) for path in folders])

    def descend(self, folder: Path) -> Path:
        """Past folders that hold one folder and nothing else, as archives are unpacked.

        `train/train` is such a folder, `train/images` too if there are folders in it.
        """
        split, seen = split_of_name(folder.name), self._above
        while True:
            inner = self.inner(folder)
            seen |= folder_ids(folder)
            if len(inner) != 1 or any(map(self.is_sample, files_in(folder))):
                return folder
            if folder_ids(inner[0]) <= seen:  # a link back
                return folder
            if split_of_name(inner[0].name) != split and not self.inner(inner[0]):
                return folder
            folder = inner[0]


# Readings -------------------------------------------------------------------------------------


def _by_train(tree: _Tree) -> Layout | None:
    """A train folder with class folders in it; a folder `train` without is a class of vehicles."""
    named = [path for path in tree.folders if tree.split[path] is not None]
    train = [path for path in named if tree.split[path] == TRAIN and tree.inner(path)]
    if not train:
        return None
    others = [
        path
        for path in tree.filled(but=named)
        if not any(split_of_name(inner.name) is not None for inner in tree.inner(path))
    ]
    plain = any(is_plain_split_name(path.name) for path in train)
    if not plain and not _agree(tree, train[0], named) and not _named_alike(train[0], named):
        return None
    if others and not _agree(tree, train[0], named):
        raise _two_readings(
            tree,
            f"{tree.shown(train)} contains class folders, as a train split does, and "
            f"{tree.shown(others)} beside it {'have' if len(others) > 1 else 'has'} "
            f"{tree.samples.noun}s too",
            {"train": sample_id(tree.root, train[0])},
        )
    return _splits(tree, [(tree.split[path], path) for path in named])


def _agree(tree: _Tree, train: Path, named: Sequence[Path]) -> bool:
    """Whether another split has folders of the same names as the train folder."""
    own = tree.readings(tree.descend(train))
    return any(
        own & tree.readings(tree.descend(path)) for path in named if tree.split[path] in (VAL, TEST)
    )


def _named_alike(train: Path, named: Sequence[Path]) -> bool:
    """Whether another name differs by the split alone, as `seg_train` and `seg_test` do."""
    rest = _rest(train.name)
    return any(path != train and _rest(path.name) == rest for path in named)


def _rest(name: str) -> tuple[str, ...]:
    """What a name says beside its split."""
    return tuple(word for word in _words(name) if word not in WORDS)


def _by_other_splits(tree: _Tree) -> Layout | None:
    """Test or val folders whose class folders some other folder has, or the root itself."""
    named = [path for path in tree.folders if tree.split[path] is not None]
    plain = [path for path in named if is_plain_split_name(path.name)]
    nested = [path for path in plain if tree.split[path] in (VAL, TEST) and tree.inner(path)]
    if nested:
        wanted = set.union(*(tree.readings(tree.descend(path)) for path in nested))
        others = tree.filled(but=named)
        alike = [path for path in others if len(wanted & tree.readings(path)) >= ALIKE]
        found = [(tree.split[path], path) for path in named]
        if len(alike) == 1 and alike == others:
            return _splits(tree, [*found, (TRAIN, alike[0])])
        if len(wanted & {_reading(path) for path in others}) >= ALIKE and not alike:
            return _splits(tree, [*found, (TRAIN, tree.root)])
    if nested or (plain and plain == tree.folders):
        train = tree.root / "train" / "CLASS"
        raise DataError(
            f"{tree.root} has the folders {tree.shown(plain)}, but no train folder with class "
            f"folders in it; put the training {tree.samples.noun}s into {train}. If one of the "
            f"other folders holds them, name it in the suite, as an option of the data set: "
            f"`splits: {{train: FOLDER}}`; `splits: {{}}` takes each folder as a class"
        )
    return None


def _inside_classes(tree: _Tree) -> Layout | None:
    """`ants/train`, `ants/test`, `bees/train`, …: split folders inside the class folders."""
    filled = tree.filled()
    parted = [path for path in filled if _has_splits_inside(tree, path)]
    if not parted or len(filled) == 1:
        return None
    strange = [path for path in filled if path not in parted or _has_more_inside(tree, path)]
    if strange:
        raise _two_readings(
            tree,
            f"some class folders contain split folders ({tree.shown(tree.inner(parted[0]))}), but "
            f"{tree.shown(strange)} {'do' if len(strange) > 1 else 'does'} not have this layout",
            {},
        )
    found = [
        ClassFolder(path=inner, name=name_text(path.name), split=split)
        for path in filled
        for inner in tree.inner(path)
        if (split := split_of_name(inner.name)) is not None
    ]
    splits = sorted({each.split for each in found if each.split != UNLABELLED})
    first = {each.split: each.path for each in reversed(found) if each.split != UNLABELLED}
    return Layout(
        class_folders=tuple(each for each in found if each.split != UNLABELLED),
        parents=dict.fromkeys(splits, tuple(filled)),
        unlabelled=tuple(each.path for each in found if each.split == UNLABELLED),
        unused=tuple(path for path in tree.folders if path not in filled),
        taken=f"{_taken_as(tree, first)}, and so in every class folder.",
    )


def _has_splits_inside(tree: _Tree, folder: Path) -> bool:
    plain = [path for path in tree.inner(folder) if is_plain_split_name(path.name)]
    return any(split_of_name(path.name) == TRAIN for path in plain) and len(plain) >= ALIKE


def _has_more_inside(tree: _Tree, folder: Path) -> bool:
    return any(map(tree.is_sample, files_in(folder))) or any(
        split_of_name(inner.name) is None and tree.holds_samples(inner)
        for inner in tree.inner(folder)
    )


def _as_classes(tree: _Tree) -> Layout:
    """Every folder is a class, unless something speaks against it."""
    filled = tree.filled()
    for path in filled:
        if _may_be_unlabelled(path) and len(filled) > ALIKE:
            raise _two_readings(
                tree,
                f"{tree.shown([path])} may be a class, or hold {tree.samples.noun}s without labels",
                {"train": "."},
            )
    _refuse_copies(tree, filled)
    _refuse_groups(tree, filled)
    _refuse_split_names(tree, filled)
    return _flat(tree)


def _may_be_unlabelled(folder: Path) -> bool:
    """`test` or `pred`; `train` and `valid` are as often the names of classes."""
    return split_of_name(folder.name) in (TEST, UNLABELLED) and is_plain_split_name(folder.name)


def _refuse_copies(tree: _Tree, filled: Sequence[Path]) -> None:
    """A folder beside the classes that has folders of their names in it: a copy of them all."""
    classes = {_reading(path) for path in filled}
    for path in filled:
        if len(tree.readings(path) & classes) >= ALIKE:
            raise _two_readings(
                tree,
                f"{tree.shown([path])} contains folders with the same names as the folders beside "
                f"it ({tree.shown(tree.inner(path))})",
                {"train": sample_id(tree.root, path)},
            )


def _refuse_groups(tree: _Tree, filled: Sequence[Path]) -> None:
    """Folders with the same folders inside: splits or other groups, whose classes are inside."""
    first_with: dict[str, list[Path]] = {}
    for path in filled:
        for name in tree.readings(path):
            first_with.setdefault(name, []).append(path)
    shared: dict[tuple[Path, Path], int] = {}
    for paths in first_with.values():
        for other in paths[1:]:
            shared[paths[0], other] = shared.get((paths[0], other), 0) + 1
    for pair, count in shared.items():
        if count >= ALIKE:
            inside = [path.name for path in tree.inner(pair[0])]
            raise _two_readings(
                tree,
                f"{tree.shown(pair)} contain folders with the same names "
                f"({naming([name_text(name) for name in inside])}), as splits do",
                {"train": sample_id(tree.root, pair[0]), "test": sample_id(tree.root, pair[1])},
            )


def _refuse_split_names(tree: _Tree, filled: Sequence[Path]) -> None:
    """`ants_train` and `ants_test`: one class, whose splits are parts of the names."""
    without_split: dict[tuple[str, ...], Path] = {}
    for path in filled:
        words = _words(path.name)
        rest = _rest(path.name)
        if not rest or len(rest) == len(words):
            continue
        other = without_split.setdefault(rest, path)
        if tree.split[other] != tree.split[path]:
            raise _two_readings(
                tree,
                f"{tree.shown([other, path])} may be two classes, or one in two splits: "
                "move them to train/CLASS and test/CLASS",
                {},
            )


def _flat(tree: _Tree) -> Layout:
    return Layout(
        class_folders=tuple(_class_folders(tree.root, tree.folders, UNASSIGNED)),
        parents={UNASSIGNED: (tree.root,)},
    )


# Splits ---------------------------------------------------------------------------------------


def _as_given(tree: _Tree, given: GivenSplits) -> Layout:
    """The splits that a suite names."""
    codes = {name: split for split, name in SPLIT_NAMES.items()}
    if "train" not in given:
        raise DataError(f"splits must name the folder of train, got {dict(given)}")
    found: dict[str, Path] = {}
    test_sets: dict[str, Path] = {}
    for name, folder in given.items():
        if isinstance(folder, str):
            found[name] = _given_folder(tree, name, folder, _named(found, test_sets))
            continue
        if name != "test" or not folder:
            raise DataError(
                f"splits must name one folder of {name}, got {dict(folder)}; only test may have "
                "several, by name"
            )
        for own, inner in folder.items():
            if not own.strip():
                raise DataError(f"splits must give each test set a name, got {own!r}: {inner}")
            test_sets[own] = _given_folder(tree, _set_of(own), inner, _named(found, test_sets))
    return _splits(
        tree, [(codes[name], path) for name, path in found.items()], test_sets, told=False
    )


def _set_of(name: str) -> str:
    return f"test set {name}"


def _named(splits: Mapping[str, Path], test_sets: Mapping[str, Path]) -> dict[str, Path]:
    return {**splits, **{_set_of(name): path for name, path in test_sets.items()}}


def _given_folder(tree: _Tree, name: str, folder: str, others: Mapping[str, Path]) -> Path:
    """The folder that is named for a split, or for a test set."""
    path = tree.root / folder
    if not path.is_dir() or Path(folder).is_absolute() or ".." in Path(folder).parts:
        names = [name_text(each.name) for each in tree.folders]
        raise DataError(
            f"splits must name folders of {tree.root}, got {name}: {folder}{nearest(folder, names)}"
        )
    path = tree.root if path.resolve() == tree.root.resolve() else path
    for other, known in others.items():
        if known == path or (tree.root not in (known, path) and _overlap(known, path)):
            raise DataError(
                f"splits must name folders without {tree.samples.noun}s in common, got "
                f"{other}: {sample_id(tree.root, known)} and {name}: {folder}"
            )
    return path


def _splits(
    tree: _Tree,
    found: Sequence[tuple[int | None, Path]],
    test_sets: Mapping[str, Path] | None = None,
    *,
    told: bool = True,
) -> Layout:
    """The layout with these split folders; what none of them holds is left out.

    The test split may have several `test_sets`, by name.
    """
    test_sets = test_sets or {}
    by_split, unlabelled = _one_for_each(tree, found)
    outer = {split: by_split[split] for split in sorted(by_split)}
    by_split = {
        split: path if path == tree.root else tree.descend(path) for split, path in outer.items()
    }
    classes = _classes_of(tree, by_split[TRAIN], (*outer.values(), *test_sets.values()))
    known = {_reading(path) for path in classes}
    class_folders = _class_folders(by_split[TRAIN], classes, TRAIN)
    for split in (VAL, TEST):
        if split not in by_split:
            continue
        folder = by_split[split]
        inner = _classes_of(tree, folder, outer.values())
        if _is_unlabelled(tree, folder, inner, known, SPLIT_NAMES[split], classes):
            unlabelled.append(outer.pop(split))
            del by_split[split]
        else:
            class_folders += _class_folders(folder, inner, split)
    parents: dict[int, tuple[Path, ...]] = {split: (path,) for split, path in by_split.items()}
    for name, path in test_sets.items():
        folder = path if tree.readings(path) & known else tree.descend(path)
        own = _class_folders(folder, _labelled(tree, folder, known, name, classes), TEST)
        class_folders += [replace(each, test_set=name) for each in own]
        parents[TEST] = (*parents.get(TEST, ()), folder)
    used = {*outer.values(), *test_sets.values(), *unlabelled}
    if by_split[TRAIN] == tree.root:
        used |= set(classes)
    inside = [path for path in tree.folders if any(_within(each, path) for each in used)]
    return Layout(
        class_folders=tuple(class_folders),
        parents=parents,
        unlabelled=tuple(unlabelled),
        unused=tuple(path for path in tree.folders if path not in inside),
        taken=_taken(tree, by_split) if told else None,
    )


def _one_for_each(
    tree: _Tree, found: Sequence[tuple[int | None, Path]]
) -> tuple[dict[int, Path], list[Path]]:
    """The folder of each split, and folders without labels; raises `DataError` where several fit.

    Of several, one without samples is none, nor one that has no class folders.
    """
    unlabelled = [path for split, path in found if split == UNLABELLED]
    by_split: dict[int, Path] = {}
    for split in (TRAIN, VAL, TEST):
        fitting = [path for own, path in found if own == split]
        if len(fitting) > 1:
            filled = [path for path in fitting if path == tree.root or tree.holds_samples(path)]
            fitting = [path for path in filled if path == tree.root or tree.inner(path)] or filled
            unlabelled += [path for path in filled if path not in fitting]
        if len(fitting) > 1:
            if split == TEST and TRAIN in by_split:
                raise SeveralTestSetsError(tree.root, _proposed(tree, by_split, fitting))
            names = [name_text(path.name) for path in fitting]
            raise DataError(
                f"{tree.root} holds {'two' if len(names) == 2 else len(names)} "
                f"{SPLIT_NAMES[split]} splits, {' and '.join(names)}; keep one of them, or name "
                "the folders of splits in the suite, as an option of the data set: "
                "`splits: {train: FOLDER, test: FOLDER}`"
            )
        if fitting:
            by_split[split] = fitting[0]
    return by_split, unlabelled


def _proposed(tree: _Tree, by_split: Mapping[int, Path], tests: Sequence[Path]) -> GivenSplits:
    """The option that names several folders as test sets."""
    own = {SPLIT_NAMES[split]: sample_id(tree.root, path) for split, path in by_split.items()}
    return {**own, "test": {name_text(p.name): sample_id(tree.root, p) for p in tests}}


def _overlap(path: Path, other: Path) -> bool:
    return _within(path.resolve(), other.resolve()) or _within(other.resolve(), path.resolve())


def _within(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _classes_of(tree: _Tree, folder: Path, outer: Collection[Path]) -> list[Path]:
    if folder != tree.root:
        return tree.inner(folder)
    others = set(outer)
    return [p for p in tree.folders if p not in others and not _may_be_unlabelled(p)]


def _labelled(
    tree: _Tree, folder: Path, known: set[str], name: str, classes: Sequence[Path]
) -> list[Path]:
    """The class folders of a test set; raises `DataError` where there are none."""
    inner = [] if folder == tree.root else tree.inner(folder)
    unlabelled = _is_unlabelled(tree, folder, inner, known, _set_of(name), classes)
    if unlabelled or not any(_reading(path) in known for path in inner):
        raise DataError(
            f"the {_set_of(name)} must have folders of the classes "
            f"{naming([name_text(path.name) for path in classes])} in it, {folder} has none"
        )
    return inner


def _is_unlabelled(
    tree: _Tree,
    folder: Path,
    inner: Sequence[Path],
    known: set[str],
    split: str,
    classes: Sequence[Path],
) -> bool:
    """Whether the samples of a split lie in no folder of a class, but all together somewhere."""
    if any(_reading(path) in known for path in inner) or not tree.holds_samples(folder):
        return False
    filled = [path for path in inner if tree.holds_samples(path)]
    if len(filled) < ALIKE:
        return True
    raise DataError(
        f"the classes of {folder} must be those of the train split, got "
        f"{naming([name_text(path.name) for path in filled])}, and train has "
        f"{naming([name_text(path.name) for path in classes])}; rename the folders, or remove the "
        f"{split} folder{_capitals(filled, classes)}"
    )


def _capitals(filled: Sequence[Path], classes: Sequence[Path]) -> str:
    """Names that would be the same in small letters."""
    known = {path.name.casefold(): name_text(path.name) for path in classes}
    alike = [
        f"{name_text(path.name)} and {known[path.name.casefold()]}"
        for path in filled
        if path.name.casefold() in known
    ]
    return f"; {naming(alike)} differ in capitals only" if alike else ""


def _class_folders(parent: Path, folders: Sequence[Path], split: int) -> list[ClassFolder]:
    """The class folders of one split; two names that read the same are no two classes."""
    by_reading: dict[str, Path] = {}
    for path in folders:
        other = by_reading.setdefault(_reading(path), path)
        if other is not path:
            forms = f"{other.name!a} and {path.name!a}"
            raise DataError(
                f"{parent} holds two classes whose names look the same, {name_text(path.name)!r} "
                f"({forms}); rename one, or move its files into the other"
            )
    return [ClassFolder(path=path, name=name_text(path.name), split=split) for path in folders]


# Words ----------------------------------------------------------------------------------------


def _taken(tree: _Tree, by_split: Mapping[int, Path]) -> str | None:
    if all(
        path.parent == tree.root and path.name.lower() in PLAIN_NAMES for path in by_split.values()
    ):
        return None
    return f"{_taken_as(tree, by_split)}."


def _taken_as(tree: _Tree, by_split: Mapping[int, Path]) -> str:
    parts = (
        f"{'the class folders' if path == tree.root else sample_id(tree.root, path)} as the "
        f"{SPLIT_NAMES[split]} split"
        for split, path in sorted(by_split.items())
    )
    return f"Recognised by structure and name: {', '.join(parts)}"


def _two_readings(tree: _Tree, why: str, splits: Mapping[str, str]) -> DataError:
    named = f"`splits: {_option(splits)}` names the folders of splits, " if splits else ""
    return DataError(
        f"{tree.root} can be read in more than one way: {why}. Say in the suite which one is "
        f"right: as an option of the data set, {named}`splits: {{}}` takes each of the "
        f"{len(tree.folders)} folders as a class; or give the path of one of them"
    )


def _option(splits: GivenSplits) -> str:
    shown = (
        f"{name}: {folder if isinstance(folder, str) else _option(folder)}"
        for name, folder in splits.items()
    )
    return "{" + ", ".join(shown) + "}"
