"""Blocks as HTML: `report.html`, one file that works from disk, and what a notebook shows."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.results.analysis import COSTS, sample_of
from bench.results.grid import complete_trials, has_folds, is_missing, over_folds
from bench.results.metric import ACCURACY, Metric
from bench.results.plots import looks
from bench.results.report.blocks import Block, Code, Details, Heading, Picture
from bench.results.report.evidence import Findings
from bench.results.report.markup import code_lines
from bench.system.visible_text import visible

if TYPE_CHECKING:
    from jinja2 import Template

UNITS = {"train_seconds": "s", "trainable_params": "number", "peak_memory_mib": "MiB"}
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
    return _template(_file("report.html.j2")).render(
        title=title.text,
        opening=opening,
        blocks=rest,
        pictures=pictures,
        interactive=interactive,
        curve_metrics=curve_metrics(found.run.metric),
        style=Markup(_file("style.css")),
        script=Markup(_file("app.js")),
        data=Markup(_script_json(page_data(found))) if interactive else "",
        library=_library() if interactive else "",
    )


def render_fragment(blocks: Iterable[Block], figures: Mapping[str, Path]) -> str:
    """The blocks for a page of others, such as a notebook: no script, no style."""
    listed = list(blocks)
    pictures = {
        block.name: _picture(figures[block.name]) for block in listed if isinstance(block, Picture)
    }
    template = _template("{% for block in blocks %}{{ show(block) }}\n{% endfor %}")
    return template.render(blocks=listed, pictures=pictures)


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
        low, high = map(_number, sample.interval)
        if sample.n:
            ranking.append({"config": result.config, "mean": sample.mean, "low": low, "high": high})
    columns = [{"name": "id", "title": "trial"}]
    columns += [{"name": f"axis:{axis}", "title": axis} for axis in grid.varying]
    figures = [{"name": name, "title": name, "number": True} for name in (*luck, "best_epoch")]
    unit = " %" if metric.percent else ""
    shares = [
        {"name": name, "title": f"{title}{unit}", "number": True, "percent": metric.percent}
        for name, title in (("test", "test"), ("val", "val"), ("last_test", "last test"))
    ]
    costs = [{"name": name, "title": _priced(name), "number": True} for name in COSTS]
    return {
        "metric": metric.name,
        "higher": metric.higher_is_better,
        "curve_metrics": curve_metrics(metric),
        "lead": grid.lead,
        "values": [{"name": value, "colour": each.colour} for value, each in look.items()],
        "axes": {axis: list(grid.axes[axis]) for axis in others},
        "costs": {name: _priced(name) for name in COSTS},
        "columns": [*columns, *figures, *shares, *costs, {"name": "status", "title": "status"}],
        "configs": {
            config: {
                "label": grid.labels[config],
                "value": cell[grid.lead],
                "colour": look[cell[grid.lead]].colour,
                "cell": {axis: cell[axis] for axis in grid.varying},
            }
            for config, cell in grid.cells.items()
        },
        "ranking": ranking,
        "trials": [_trial(row, metric) for row in run.trials.to_dict("records")],
        "curves": _curves(found),
    }


def _priced(column: str) -> str:
    return f"{COSTS[column]} ({UNITS[column]})"


def curve_metrics(metric: Metric) -> dict[str, dict[str, Any]]:
    """What can be drawn by epoch, by its column: how, and whether training is known of it."""
    drawn = {each.name: each for each in (metric, ACCURACY)}
    return {
        **{
            name: {
                "label": each.label,
                "axis": each.axis_label,
                "scale": each.scale,
                "unit": " %" if each.percent else "",
                "bounds": [0, 100] if each.percent else [None, None],
                "training": each.is_accuracy,
            }
            for name, each in drawn.items()
        },
        "loss": {
            "label": "loss",
            "axis": "loss (nats)",
            "scale": 1,
            "unit": "",
            "bounds": [0, None],
            "training": True,
        },
    }


def _trial(row: Mapping[Any, Any], metric: Metric) -> dict[str, Any]:
    return {
        "id": str(row["trial"]),
        "config": str(row["config"]),
        "seed": _number(row["seed"]),
        "fold": _number(row.get("fold")),
        "best_epoch": _number(row["best_epoch"]),
        "test": _number(row[metric.test]),
        "val": _number(row[metric.val]),
        "last_test": _number(row[metric.last_test]),
        "costs": {name: _number(row[name]) for name in COSTS},
        "status": str(row["status"]),
    }


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


def _library() -> str:
    """Plotly's JavaScript, compressed, in base64."""
    source = resources.files("plotly").joinpath("package_data/plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(source, mtime=0)).decode()


def _visible(piece: Any) -> Any:
    """Marks that turn the direction of writing end with no element: they are shown as escapes."""
    return visible(piece, keep="\n\t") if type(piece) is str else piece


def _code(block: Code) -> str:
    return "\n".join(code_lines(block.content, max_lines=block.max_lines))


def _file(name: str) -> str:
    return (
        resources.files("bench.results.report").joinpath("page", name).read_text(encoding="utf-8")
    )
