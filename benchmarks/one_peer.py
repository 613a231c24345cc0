"""One side of `peers.py` in a process of its own: trains, and prints what came of it.

python benchmarks/one_peer.py plain --data FOLDER --weights FILE --out FOLDER --epochs 2
"""

from __future__ import annotations

import argparse
import importlib
import json
from dataclasses import asdict
from pathlib import Path

from peer_loops import PEERS, Task, Trained


def main() -> None:
    """Print one JSON line: the epochs, and the file with the weights of the best one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("side", choices=PEERS)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--weights", type=Path, required=True, help="of make_weights.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--mode", default="full", help="full, probe, or topN such as top1")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.001)
    given = vars(parser.parse_args())
    loop = importlib.import_module(f"peer_loops.{given.pop('side')}")
    trained: Trained = loop.train(Task(**given, augment=True))
    epochs = [asdict(epoch) for epoch in trained.epochs]
    print(json.dumps({"epochs": epochs, "checkpoint": str(trained.checkpoint)}))


if __name__ == "__main__":
    main()
