"""A notebook that calls every verb: what its cells show."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from tests.tiny import SMOKE_SUITE

pytestmark = pytest.mark.campaign

pytest.importorskip("ipykernel", reason="notebooks need ipykernel")
nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient")
nbformat = pytest.importorskip("nbformat", reason="notebooks need nbformat")

TUNE = "tune: {space: {lr: [0.01, 0.02]}, trials: 1}"
CELLS = {
    "import": f"import bench\nsuite = {SMOKE_SUITE + TUNE!r}",
    "mistake": "bench.plan({'name': 'x', 'dataset': 'fractals', 'strategy': 'full_finetune'})",
    "options": "options = {'out': 'out', 'overrides': ['strategy=linear_probe', 'seed=0']}",
    "plan": "plan = bench.plan(suite, **options)\nprint(plan)\nplan",
    "run": "run = bench.run(suite, workers=1, **options)\nrun",
    "tune": "bench.tune(suite, workers=1, **options)",
    "lr_find": "bench.lr_find(suite, steps=20, low=1e-4, **options)",
    "read_run": "bench.read_run(run.folder).trials[['strategy', 'status']]",
    "show": "bench.show(run.folder)",
    "show trial": "bench.show(run.folder, run.trials['trial'][0])",
    "why": "bench.why(run.folder, run.trials['trial'][0])",
    "compare": "bench.compare(run.folder, 'out/tiny_tuned')",
    "audit": "bench.audit(run.folder)",
    "report": "bench.report(run.folder, format='csv').files",
    "init": "bench.init('photos')",
    "list": "bench.list('heads')",
    "schema": "bench.schema()[:1]",
    "doctor": "bench.doctor()",
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each cell shows: printed lines, and HTML where there is any, else text."""
    folder = tmp_path_factory.mktemp("notebook")
    for name, colour in (("cats", "red"), ("dogs", "blue")):
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(12):
            image = Image.effect_noise((24, 24), 20 + index).convert("RGB")
            Image.blend(image, Image.new("RGB", (24, 24), colour), 0.3).save(
                folder / "photos" / name / f"{index}.png"
            )
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, CELLS.values())))
    client = nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        allow_error_names=["SuiteError"],
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return {
        name: "".join(map(_text, cell.outputs))
        for name, cell in zip(CELLS, notebook.cells, strict=True)
    }


def _text(output: Any) -> str:
    if output.output_type == "stream":
        # Libraries miss their progress bars for notebooks.
        assert output.name == "stdout" or "TqdmWarning" in output.text, output.text
        return str(output.text) if output.name == "stdout" else ""
    if output.output_type == "error":
        return "\n".join(output.traceback)
    return str(output.data.get("text/html", output.data["text/plain"]))


def test_a_run_tells_how_it_goes_on_and_shows_itself(shown: dict[str, str]) -> None:
    assert "1/1" in shown["run"]
    for name in ("run", "tune"):
        assert "<h1>Results of tiny" in shown[name]
        assert "<strong>Result:</strong>" in shown[name]
        assert shown[name].count('src="data:image/png;base64,') == 2
        assert "<script" not in shown[name]


def test_a_mistake_is_a_message(shown: dict[str, str]) -> None:
    assert shown["mistake"] == "SuiteError: backbone is required"


def test_other_calls_show_what_they_return(shown: dict[str, str]) -> None:
    assert "\n1\t1\t2\tshufflenet_v2_x0_5 · linear_probe" in shown["plan"]
    assert "<td>shufflenet_v2_x0_5 · linear_probe" in shown["plan"]
    assert "bench tune searches 1 cell, 1 trial" in shown["plan"]
    assert '<th scope="col" class="number">valley</th>' in shown["lr_find"]
    assert 'src="data:image/png;base64,' in shown["lr_find"]
    assert "complete" in shown["read_run"]
    assert "<pre><code>" in shown["show"]
    assert "val accuracy" in shown["show trial"]
    assert "was chosen because" in shown["why"]
    assert "<h3>out/tiny → out/tiny_tuned</h3>" in shown["compare"]
    assert "Looked at" in shown["audit"]
    assert "tables" in shown["report"]
    assert "photos.yaml" in shown["init"]
    assert "linear" in shown["list"]
    assert shown["schema"] == "'{'"
    assert "torch" in shown["doctor"]
