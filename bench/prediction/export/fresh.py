"""A fresh process that has the exported file and the code of its card, and nothing else."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError, is_full_disk

_ANSWER = "bench answers: "

_SERVE = f"""

import io as _io
import json as _json
import sys as _sys
import time as _time
from pathlib import Path as _Path

import numpy as _numpy

_exchange = _Path(_sys.argv[1])
for _line in _sys.stdin:
    _batch = _numpy.load(_exchange / "batch.npy")
    if _line.strip() == "image":
        from PIL import Image as _Image

        _batch = prepare(_Image.fromarray(_batch))
    if _line.strip() == "array":
        _batch = prepare(_batch)
    if _line.strip() == "texts":
        _batch = prepare(_json.loads(_batch.tobytes()))
    _start = _time.perf_counter()
    _found = _answers(_batch)
    _seconds = _time.perf_counter() - _start
    _content = _io.BytesIO()
    _numpy.save(_content, _found)
    (_exchange / "logits.npy").write_bytes(_content.getvalue())
    print({_ANSWER!r} + str(_seconds), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """The process; arrays are exchanged as files in a folder."""

    name: str
    process: subprocess.Popen[str]
    exchange: Path
    errors: IO[str]

    def logits(self, batch: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.float32], float]:
        """What the file answers `[n, outputs]`, and the seconds that it took.

        Texts are made ready as the card's code does, before the time counts.
        """
        if batch.dtype.kind == "O":
            content = json.dumps(batch.tolist()).encode()
            return self._ask("texts", np.frombuffer(content, np.uint8))
        return self._ask("batch", batch)

    def logits_of_image(
        self, image: npt.NDArray[np.generic], *, as_array: bool = False
    ) -> npt.NDArray[np.float32]:
        """The same [1, outputs] of an image of any size, made ready as the card's code does.

        That takes an image of Pillow, or of other channels than RGB an array.
        """
        return self._ask("array" if as_array else "image", image)[0]

    def _ask(
        self, what: str, array: npt.NDArray[np.generic]
    ) -> tuple[npt.NDArray[np.float32], float]:
        content = io.BytesIO()  # written to a file by itself, NumPy does not say why it could not
        np.save(content, array)
        # A copy: a view would outlive its buffer in the traceback of a full disk.
        (self.exchange / "batch.npy").write_bytes(content.getvalue())
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{what}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        for line in self.process.stdout:  # libraries may print there too
            if line.startswith(_ANSWER):
                found = np.load(self.exchange / "logits.npy")
                return found, float(line.removeprefix(_ANSWER))
        raise self._failure()

    def _failure(self) -> BenchError | OSError:
        self.process.wait()
        self.errors.seek(0)
        said = [line for line in self.errors.read().splitlines() if line.strip()]
        reason = said[-1].strip() if said else f"it ended with {self.process.returncode}"
        if is_full_disk(OSError(reason)):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return BenchError(
            f"the exported file does not work in {self.name}, so it was not kept: {reason}"
        )


@contextmanager
def fresh_process(
    code: str, folder: Path, *, name: str, function: str = "logits"
) -> Iterator[Fresh]:
    """Run a card's `code` in `folder`; it defines `prepare` and the `function` that answers.

    `name` is the runtime's.

    What is exchanged lies in `folder` as long as it runs, so that whoever removes what a kill left
    of that removes all. Calls raise `BenchError` with the last line of what it said if it fails.
    """
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".exchange-") as exchange,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-c",
                f"{code}\n_answers = {function}\n{_SERVE}",
                os.path.abspath(exchange),
            ],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        try:
            yield Fresh(name=name, process=process, exchange=Path(exchange), errors=errors)
        finally:
            process.kill()
