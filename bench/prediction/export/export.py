"""`bench export`: a trained trial as a folder with a file for other programs, and its card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, nearest, without_secrets
from bench.prediction.choice import Chosen, chosen_trial
from bench.prediction.load import open_trial
from bench.results.folder import read_run
from bench.system.cache import atomic_folder, flush_to_disk
from bench.system.object_store import is_url
from bench.system.token_rows import PADDING

if TYPE_CHECKING:
    from bench.data.inputs import Preprocessing
    from bench.prediction.export.check import Check
    from bench.prediction.export.formats import Format, Wish
    from bench.prediction.model import TrainedModel

CARD, CARD_JSON, PREPROCESSING_FILE = "card.md", "card.json", "preprocessing.json"
FORMATS = ("safetensors", "torch-export", "onnx")
PLACES = ("inside", "beside")
DTYPES = ("fp32", "fp16")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What `bench export` wrote, and what the check of it found.

    `model` is the file in `folder`, `card` the model card in Markdown (`card.json` beside it),
    `preprocessing` the file that says how samples become inputs, None where that is inside. `bytes`
    is the size of the model.
    """

    folder: Path
    model: Path
    card: Path
    preprocessing: Path | None
    format: str
    dtype: str
    bytes: int
    chosen: Chosen
    check: Check


def export(
    run: str | Path,
    trial: str | None = None,
    *,
    format: str = "onnx",
    out: str | Path | None = None,
    preprocessing: str | None = None,
    dtype: str = "fp32",
) -> Exported:
    """Write a trained trial as a file for other programs: see `bench.export`."""
    _check_choice("format", format, FORMATS)
    _check_choice("dtype", dtype, DTYPES)
    if preprocessing is not None:
        _check_choice("preprocessing", preprocessing, PLACES)
    if out is None and is_url(run):
        raise BenchError(f"{run} is not on this machine; give --out FOLDER")
    found = read_run(run)
    folder = _folder(found.folder, format, dtype, out)
    chosen = chosen_trial(found, trial)

    from bench.prediction.export.check import check_file
    from bench.prediction.export.formats import FORMATS as WRITERS
    from bench.prediction.export.formats import TOKENIZER_FILE

    file = WRITERS[format]
    file.check_installed()
    model = open_trial(found, chosen, device="cpu")
    _check_computes(model)
    wish = _wish(file, model.preprocessing, preprocessing, dtype)
    with _replacing(folder, file) as temporary:
        file.write(model, wish, temporary)
        if model.preprocessing.tokenizer is not None:
            (temporary / TOKENIZER_FILE).write_text(model.preprocessing.tokenizer, encoding="utf-8")
        check, code = check_file(found, model, file, wish, temporary)
        files = {each.name: each.stat().st_size for each in sorted(temporary.iterdir())}
        if wish.place == "beside":
            _write_json(temporary / PREPROCESSING_FILE, _described(model.preprocessing))

        from bench.prediction.export.card import describe, to_markdown

        card = describe(found, model, file=file, wish=wish, files=files, check=check, code=code)
        _write_json(temporary / CARD_JSON, card)
        (temporary / CARD).write_text(to_markdown(card), encoding="utf-8")
        for each in temporary.iterdir():
            flush_to_disk(each)
    return Exported(
        folder=folder,
        model=folder / file.file,
        card=folder / CARD,
        preprocessing=folder / PREPROCESSING_FILE if wish.place == "beside" else None,
        format=format,
        dtype=dtype,
        bytes=sum(files.values()),
        chosen=chosen,
        check=check,
    )


def _described(preprocessing: Preprocessing) -> dict[str, Any]:
    """What `preprocessing.json` says."""
    from bench.prediction.export.formats import TOKENIZER_FILE

    told = preprocessing.described()
    if preprocessing.tokenizer is not None:
        return {**told, "tokenizer": TOKENIZER_FILE, "padding": PADDING}
    return {"layout": "nchw", "scale": preprocessing.form.white, **told}


def _check_choice(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise BenchError(
            f"--{name} must be one of {', '.join(valid)}, got {value!r}{nearest(value, valid)}"
        )


def _check_computes(model: TrainedModel) -> None:
    """Raise `BenchError` where the network is more than operations on tensors."""
    fitted = model.network.fitted_head
    if fitted is not None and fitted[1].ngrams is not None:
        raise BenchError(
            f"{model.spec.backbone} counts n-grams of texts, which is no operation of the formats "
            "that can be exported; use the run folder itself (bench predict, bench.load)"
        )


def _wish(file: Format, preprocessing: Preprocessing, place: str | None, dtype: str) -> Wish:
    from bench.prediction.export.formats import Wish

    kind = preprocessing.kind
    usual = "beside" if kind != "image" or preprocessing.deep else file.places[0]
    chosen = usual if place is None else place
    if kind == "vector" and chosen == "inside":
        raise BenchError(
            "vectors have no preprocessing that a file could contain; leave out "
            "--preprocessing inside"
        )
    if kind == "text" and chosen == "inside":
        raise BenchError(
            "a file cannot contain the tokenizer of texts, which lies beside it as tokenizer.json; "
            "leave out --preprocessing inside"
        )
    if preprocessing.deep and chosen == "inside":
        raise BenchError(
            "a file can contain the preprocessing of 8-bit images, and these have more; leave out "
            "--preprocessing inside"
        )
    if chosen not in file.places:
        raise BenchError(
            f"a file of --format {file.name} holds values only, so --preprocessing can be "
            f"{' or '.join(file.places)}, not {chosen}"
        )
    return Wish(place="inside" if chosen == "inside" else "beside", dtype=dtype, kind=kind)


def _folder(run: Path, format: str, dtype: str, out: str | Path | None) -> Path:
    if out is not None and is_url(out):
        raise BenchError(f"--out must be a folder on this machine, got {without_secrets(str(out))}")
    if out is not None:
        return Path(out).expanduser()
    if (run / "export").is_symlink():
        raise BenchError(f"{run / 'export'} is a link, which leads elsewhere; give --out FOLDER")
    return run / "export" / (format if dtype == "fp32" else f"{format}-{dtype}")


@contextmanager
def _replacing(folder: Path, file: Format) -> Iterator[Path]:
    """A temporary folder that takes the place of `folder` when the block succeeds.

    Raises `BenchError` if anything is there that an export does not write.
    """
    if folder.is_symlink():
        raise BenchError(f"{folder} is a link; give --out the folder that is meant")
    if folder.exists():
        known = _written_names()
        strange = (
            sorted(each.name for each in folder.iterdir() if each.name not in known)
            if folder.is_dir()
            else [folder.name]
        )
        if strange:
            raise BenchError(
                f"{folder} exists and is not an earlier export (it holds {strange[0]}); give "
                "another folder as --out"
            )
    with atomic_folder(folder, keep=lambda _: False) as temporary:
        yield temporary


def _written_names() -> set[str]:
    from bench.prediction.export.formats import FORMATS as WRITERS
    from bench.prediction.export.formats import TOKENIZER_FILE

    models = {each.file for each in WRITERS.values()}
    return {
        CARD,
        CARD_JSON,
        PREPROCESSING_FILE,
        TOKENIZER_FILE,
        *models,
        *(f"{name}.data" for name in models),
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(
        json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        encoding="utf-8",
        errors="backslashreplace",
    )
