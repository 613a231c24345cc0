"""Blocks as HTML: `report.html`, one file that works from disk, and what a notebook shows."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.results.analysis import COSTS, sample_of
from bench.results.grid import (
    SEPARATOR,
    UNKNOWN,
    Grid,
    complete_trials,
    has_folds,
    is_missing,
    over_folds,
)
from bench.results.metric import ACCURACY, Metric
from bench.results.plots import INPUTS, looks, reach
from bench.results.report.blocks import Block, Code, Details, Heading, Picture
from bench.results.report.evidence import Findings
from bench.results.report.markup import code_lines
from bench.system.visible_text import visible

if TYPE_CHECKING:
    from jinja2 import Template

UNITS = {"train_seconds": "s", "trainable_params": "number", "peak_memory_mib": "MiB"}
PHOTOGRAPHS = (INPUTS, "mistakes", "residuals")
"""Figures that keep their colours on a dark page."""

SYMBOLS: Mapping[str, tuple[str, str]] = {
    "o": ("circle", "●"),
    "s": ("square", "■"),
    "^": ("triangle-up", "▲"),
    "D": ("diamond", "◆"),
    "v": ("triangle-down", "▼"),
    "P": ("cross", "✚"),
    "X": ("x", "✖"),
}
"""For each marker of a figure its name in Plotly, and how it reads in a text."""
FILLS: Mapping[str, str] = {"": "●", "-open": "○", "-dot": "◉", "-open-dot": "◎"}

DIGITS = 5
"""Significant digits of losses and accuracies in curves: a screen shows no more."""


def render_html(blocks: Iterable[Block], found: Findings, figures: Mapping[str, Path]) -> str:
    """The page; `figures` are the files of `write_plots`, those of the blocks are put into it."""
    from markupsafe import Markup

    listed = [block for block in blocks if not isinstance(block, Details)]
    title = listed[0]
    assert isinstance(title, Heading)
    sections = [
        index
        for index, block in enumerate(listed)
        if isinstance(block, Heading) and block.level > 1
    ]
    first = min(sections, default=len(listed))
    opening, rest = listed[:first], listed[first:]
    pictures = {
        block.name: _picture(figures[block.name]) for block in rest if isinstance(block, Picture)
    }
    interactive = not complete_trials(found.run.trials).empty
    script, library = _file("app.js"), _library() if interactive else b""
    anchors = _anchors(rest)
    return _template(_file("report.html.j2")).render(
        title=title.text,
        opening=opening,
        blocks=list(zip(rest, anchors, strict=True)),
        contents=[
            (anchor, block)
            for block, anchor in zip(rest, anchors, strict=True)
            if isinstance(block, Heading)
        ],
        pictures=pictures,
        photographs=PHOTOGRAPHS,
        interactive=interactive,
        curve_metrics=curve_metrics(found.run.metric),
        policy=_policy([script.encode(), library] if interactive else []),
        style=Markup(_file("style.css")),
        script=Markup(script),
        data=Markup(_script_json(page_data(found))) if interactive else "",
        library=base64.b64encode(gzip.compress(library, mtime=0)).decode(),
    )


def _anchors(blocks: Sequence[Block]) -> list[str]:
    """For each block what links lead to, of headings alone."""
    seen: Counter[str] = Counter()
    anchors = []
    for block in blocks:
        anchor = ""
        if isinstance(block, Heading):
            words = re.sub(r"[^a-z0-9]+", "-", block.text.lower()).strip("-") or "section"
            seen[words] += 1
            anchor = f"s-{words}" if seen[words] == 1 else f"s-{words}-{seen[words]}"
        anchors.append(anchor)
    return anchors


def _policy(scripts: Sequence[bytes]) -> str:
    """The page's content security policy: it runs these scripts, and fetches and sends nothing."""
    hashes = (base64.b64encode(hashlib.sha256(each).digest()).decode() for each in scripts)
    sources = " ".join(f"'sha256-{each}'" for each in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def render_fragment(blocks: Iterable[Block], figures: Mapping[str, Path]) -> str:
    """The blocks for a page of others, such as a notebook: no script, no style."""
    listed = list(blocks)
    pictures = {
        block.name: _picture(figures[block.name]) for block in listed if isinstance(block, Picture)
    }
    template = _template("{% for block in blocks %}{{ show(block) }}\n{% endfor %}")
    return template.render(blocks=listed, pictures=pictures, photographs=PHOTOGRAPHS)


def _template(body: str) -> Template:
    """A page with the macros that show blocks."""
    from jinja2 import Environment

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_visible
    )
    environment.filters["relative"] = quote
    environment.filters["code"] = _code
    return environment.from_string(_file("blocks.html.j2") + body)


def page_data(found: Findings) -> dict[str, Any]:
    """What the page draws and lists, as JSON: null stands for what is not known."""
    run, grid = found.run, found.grid
    metric, look = run.metric, looks(grid.axes[grid.lead])
    complete = over_folds(complete_trials(run.trials))
    luck = ("seed", "fold") if has_folds(run.trials) else ("seed",)
    others = [axis for axis in grid.keys if axis != grid.lead]
    ranking = []
    for result in found.results:
        sample = sample_of(complete.loc[complete["config"] == result.config, metric.test])
        low, high = map(_number, sample.interval if reach(sample.n) else (None, None))
        if not sample.n:
            continue
        text = metric.text(sample.mean)
        if low is not None and high is not None:
            text += f", 95 %: {metric.number(low)}–{metric.number(high)}"
        row = {"config": result.config, "mean": sample.mean, "low": low, "high": high}
        ranking.append({**row, "shown": text})
    columns = [{"name": "id", "title": "trial"}]
    columns += [{"name": f"axis:{axis}", "title": axis} for axis in grid.varying]
    figures = [{"name": name, "title": name, "number": True} for name in (*luck, "best_epoch")]
    unit = " %" if metric.percent else ""
    shares = [
        {"name": name, "title": f"{title}{unit}", "number": True}
        for name, title in (("test", "test"), ("val", "val"), ("last_test", "last test"))
    ]
    costs = [{"name": name, "title": _priced(name), "number": True} for name in COSTS]
    fills = _fills(grid, others)
    return {
        "metric": metric.name,
        "higher": metric.higher_is_better,
        "curve_metrics": curve_metrics(metric),
        "lead": grid.lead,
        "values": [
            {
                "name": value,
                "colour": each.colour,
                "symbol": SYMBOLS[each.marker][0],
                "sign": SYMBOLS[each.marker][1],
            }
            for value, each in look.items()
        ],
        "fills": [
            {"name": SEPARATOR.join(cell), "sign": FILLS[fill]} for cell, fill in fills.items()
        ],
        "alike": bool(others) and not fills,
        "reach": {n: reach(n) for n in sorted(set(complete.groupby("config").size()))},
        "axes": {axis: list(grid.axes[axis]) for axis in others},
        "costs": {name: _priced(name) for name in COSTS},
        "columns": [*columns, *figures, *shares, *costs, {"name": "status", "title": "status"}],
        "configs": {
            config: {
                "label": grid.labels[config],
                "value": cell[grid.lead],
                "colour": look[cell[grid.lead]].colour,
                "symbol": SYMBOLS[look[cell[grid.lead]].marker][0]
                + fills.get(_cell_of(cell, others), ""),
                "cell": {axis: cell[axis] for axis in grid.varying},
            }
            for config, cell in grid.cells.items()
        },
        "ranking": ranking,
        "trials": [_trial(row, metric) for row in run.trials.to_dict("records")],
        "curves": _curves(found),
    }


def _cell_of(cell: Mapping[str, str], axes: Sequence[str]) -> tuple[str, ...]:
    return tuple(cell[axis] for axis in axes)


def _fills(grid: Grid, others: Sequence[str]) -> dict[tuple[str, ...], str]:
    """How the points of configs of one leading value differ; nothing if there are too many."""
    cells = sorted(
        {_cell_of(cell, others) for cell in grid.cells.values()},
        key=lambda cell: [
            grid.axes[axis].index(value) if value in grid.axes[axis] else -1
            for axis, value in zip(others, cell, strict=True)
        ],
    )
    if not 1 < len(cells) <= len(FILLS):
        return {}
    return dict(zip(cells, FILLS, strict=False))


def _priced(column: str) -> str:
    return f"{COSTS[column]} ({UNITS[column]})"


def curve_metrics(metric: Metric) -> dict[str, dict[str, Any]]:
    """What can be drawn by epoch, by its column: how, and whether training is known of it."""
    drawn = {each.name: each for each in (metric, *((ACCURACY,) if metric.of_classes else ()))}
    return {
        **{
            name: {
                "label": each.label,
                "axis": each.axis_label,
                "scale": each.scale,
                "unit": " %" if each.percent else "",
                "bounds": [0, 100] if each.percent else [None, None],
                "training": each.is_accuracy or not each.of_classes,
            }
            for name, each in drawn.items()
        },
        "loss": {
            "label": "loss",
            "axis": metric.loss_axis,
            "scale": 1,
            "unit": "",
            "bounds": [0, None],
            "training": True,
        },
    }


def _trial(row: Mapping[Any, Any], metric: Metric) -> dict[str, Any]:
    """A row of the page's table; `shown` has figures as the rest of the report writes them.

    A browser rounds halves up, Python to even.
    """
    scores = {"test": metric.test, "val": metric.val, "last_test": metric.last_test}
    return {
        "id": str(row["trial"]),
        "config": str(row["config"]),
        "seed": _number(row["seed"]),
        "fold": _number(row.get("fold")),
        "best_epoch": _number(row["best_epoch"]),
        **{name: _number(row[column]) for name, column in scores.items()},
        "costs": {name: _number(row[name]) for name in COSTS},
        "status": str(row["status"]),
        "shown": {
            **{
                name: UNKNOWN if is_missing(row[column]) else metric.number(row[column])
                for name, column in scores.items()
            },
            **{name: _cost(row[name]) for name in COSTS},
        },
    }


def _cost(value: Any) -> str:
    """A cost to four digits: `31.25`, `11,180,000`."""
    return UNKNOWN if is_missing(value) else f"{float(f'{value:.4g}'):,.10g}"


def _curves(found: Findings) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    """trial → split → metric → values by epoch."""
    curves: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    ordered = found.run.curves.sort_values("epoch")
    for (trial, split), rows in ordered.groupby(["trial", "split"], sort=False):
        metrics = {
            name: [_number(value, DIGITS) for value in rows[name].tolist()]
            for name in curve_metrics(found.run.metric)
        }
        curves.setdefault(str(trial), {})[str(split)] = metrics
    return curves


def _number(value: Any, digits: int | None = None) -> float | int | None:
    """A number as JSON has it; null for what is missing or not finite."""
    if is_missing(value) or not math.isfinite(value):
        return None
    if digits is not None:
        return float(f"{value:.{digits}g}")
    return int(value) if float(value).is_integer() else float(value)


def _script_json(content: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _picture(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _library() -> bytes:
    """Plotly's JavaScript."""
    return resources.files("plotly").joinpath("package_data/plotly.min.js").read_bytes()


def _visible(piece: Any) -> Any:
    """Marks that turn the direction of writing end with no element: they are shown as escapes."""
    return visible(piece, keep="\n\t") if type(piece) is str else piece


def _code(block: Code) -> str:
    return "\n".join(code_lines(block.content, max_lines=block.max_lines))


def _file(name: str) -> str:
    return (
        resources.files("bench.results.report").joinpath("page", name).read_text(encoding="utf-8")
    )
