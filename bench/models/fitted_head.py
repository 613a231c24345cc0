"""The head of strategies that fit instead of training: a function of features and kept tensors.

What it computes follows from which tensors it holds. Their sizes are only known once they have been
fitted (neighbours, nodes of trees), so it starts empty, and gives the features on as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.models.text.ngrams import MAX_LENGTH, UNITS, NGrams, Vocabulary, texts_of

AS_IT_IS, LOG, LOGIT = 0, 1, 2
"""The values of `link`: what is made of the mean of answers before it is given."""

FLOOR = 1e-6
"""The least probability of which a logarithm is given."""

MAX_DEPTH = 10_000

Held = Mapping[str, Tensor]
Numbers = Mapping[str, float]
Compute = Callable[[Held, Numbers, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Features that a head may read without the others: of so many last `blocks`, with the mean of
    the last one's patches or not (`average`; None: there is no such choice).

    They are the `pieces` `[begin, end)` of a row; an `end` of None is that of the row.
    """

    blocks: int
    average: bool | None
    pieces: tuple[tuple[int, int | None], ...]


class FittedHead(nn.Module):
    """Features `[n, features]` to outputs `[n, outputs]`, by the tensors that it holds.

    `columns` says which of the features may be read without the others. Where features are the
    bytes of a text, `ngrams` says which n-grams of it are fitted.

    - `weight` `[outputs, features]`, `bias` `[outputs]`: a linear layer.
    - `directions` `[outputs, features]`: their products with features of length 1.
    - `directions`, `keys` `[m, features]`, `values` `[m, outputs]`, `alpha`, `beta`: the
      same, and alpha · exp(-beta · (1 - similarity to each key)) · values.
    - `bank` `[m, features]` of length 1, `answers` `[m, outputs]`, `log_weights` `[m]`, `k`,
      `temperature`, `link`: the mean answer of the k nearest by cosine, weighted by the softmax of
      similarity / temperature.
    - `support` `[m, features]`, `coefficients` `[outputs, m]`, `bias`, `gamma`, `shift`, `scale`
      (of features): a sum of Gaussian kernels.
    - `feature`, `threshold`, `left`, `right` `[nodes]`, `roots` `[trees]`, `values`
      `[nodes, outputs]`, `depth`, `link`: the mean of trees. Leaves are their own children.
    - `terms` (bytes of so many n-grams, as `Vocabulary.stored`), `idf` `[n-grams]`, `unit` (of
      `UNITS`), `shortest`, `longest`, `weight` `[outputs, n-grams]`, `bias`: a linear layer on the
      weighted n-grams of texts, which are few in each.
    """

    place: Tensor

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.features, self.outputs = features, outputs
        self.columns: tuple[Columns, ...] = ()
        self.ngrams: NGrams | None = None
        self._compute: Compute | None = None
        self._numbers: dict[str, float] = {}
        # Moves with the network, also while nothing is held.
        self.register_buffer("place", torch.empty(0), persistent=False)

    def hold(self, tensors: Held) -> None:
        """Compute by copies of these tensors from now on; none: give features on as they are.

        Raises `ValueError` for tensors that make no head of this size.
        """
        kind = _kind(tensors, self.features, self.outputs) if tensors else None
        for name in self.held():
            delattr(self, name)
        self._compute, self._numbers = None, {}
        if kind is None:
            return
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach().clone().to(self.place.device))
        # As numbers they do not have to come from a device, and files for others know them.
        self._numbers = {name: tensors[name].item() for name in kind.numbers}
        self._compute = kind.compute if kind.compute is not None else _of_ngrams(tensors)

    def held(self) -> dict[str, Tensor]:
        """The tensors that it holds."""
        return {name: each for name, each in self.named_buffers() if name != "place"}

    @property
    def is_linear(self) -> bool:
        """Whether it holds the values of a linear layer, under the names of one."""
        return self._compute is _linear

    def forward(self, features: Tensor) -> Tensor:
        """Scores, of which softmax or sigmoid gives probabilities, or values."""
        if self._compute is None:
            return features
        return self._compute(self.held(), self._numbers, features)


def linear_of(held: Held) -> dict[str, Tensor]:
    """The linear layer that gives the same of features of length √d as `directions` do.

    Image–text models have such features `[n, d]`; logits agree to rounding.
    """
    rows = held["directions"]
    return {"weight": rows / sqrt(rows.shape[1]), "bias": rows.new_zeros(len(rows))}


# What it computes -------------------------------------------------------------------------------


def _linear(held: Held, numbers: Numbers, features: Tensor) -> Tensor:
    return F.linear(features, held["weight"], held["bias"])


def _cosine(held: Held, numbers: Numbers, features: Tensor) -> Tensor:
    return F.linear(F.normalize(features, dim=1), held["directions"])


def _cached(held: Held, numbers: Numbers, features: Tensor) -> Tensor:
    own = F.normalize(features, dim=1)
    near = (-numbers["beta"] * (1 - F.linear(own, held["keys"]))).exp()
    return F.linear(own, held["directions"]) + numbers["alpha"] * (near @ held["values"])


def _neighbours(held: Held, numbers: Numbers, features: Tensor) -> Tensor:
    similarity = F.linear(F.normalize(features, dim=1), held["bank"])
    nearest, which = similarity.topk(int(numbers["k"]), dim=1)
    shares = (nearest / numbers["temperature"] + held["log_weights"][which]).softmax(dim=1)
    spread = torch.zeros_like(similarity).scatter(1, which, shares)
    return _linked(spread @ held["answers"], numbers["link"])


def _gaussians(held: Held, numbers: Numbers, features: Tensor) -> Tensor:
    own, support = (features - held["shift"]) * held["scale"], held["support"]
    squares = (own * own).sum(dim=1, keepdim=True) + (support * support).sum(dim=1)
    distances = (squares - 2 * own @ support.T).clamp(min=0)
    return F.linear((-numbers["gamma"] * distances).exp(), held["coefficients"], held["bias"])


def _trees(held: Held, numbers: Numbers, features: Tensor) -> Tensor:
    node = held["roots"].expand(features.shape[0], -1)
    for _ in range(int(numbers["depth"])):
        goes_left = features.gather(1, held["feature"][node]) <= held["threshold"][node]
        node = torch.where(goes_left, held["left"][node], held["right"][node])
    return _linked(held["values"][node].mean(dim=1), numbers["link"])


def _linked(means: Tensor, link: float) -> Tensor:
    means = means.float()  # half precision has nothing between 1 - FLOOR and 1
    if link == LOG:
        return means.clamp(min=FLOOR).log()
    return means.clamp(FLOOR, 1 - FLOOR).logit() if link == LOGIT else means


def linear_of_rows(held: Held, rows: Any) -> Tensor:
    """What a linear layer with `weight` and `bias` makes of sparse rows `[n, features]`."""
    weight, bias = (held[name].double().cpu().numpy() for name in ("weight", "bias"))
    return torch.from_numpy((rows @ weight.T + bias).astype(np.float32))


def ngram_tensors(vocabulary: Vocabulary) -> dict[str, Tensor]:
    """What a head holds of n-grams, beside its linear layer."""
    own = vocabulary.ngrams
    numbers = {"unit": UNITS.index(own.unit), "shortest": own.shortest, "longest": own.longest}
    return {
        "terms": torch.from_numpy(vocabulary.stored().copy()),
        "idf": torch.from_numpy(vocabulary.idf.astype(np.float32)),
        **{name: torch.tensor(number) for name, number in numbers.items()},
    }


def _of_ngrams(tensors: Held) -> Compute:
    """Computes by a vocabulary that is read once; raises `ValueError` where it cannot be."""
    unit, shortest, longest = (int(tensors[name]) for name in ("unit", "shortest", "longest"))
    vocabulary = Vocabulary.restored(
        NGrams(unit=UNITS[unit], shortest=shortest, longest=longest),
        tensors["terms"].cpu().numpy(),
        tensors["idf"].double().cpu().numpy(),
    )

    def compute(held: Held, numbers: Numbers, features: Tensor) -> Tensor:
        rows = vocabulary.weighted(texts_of(features.cpu().numpy()))
        return linear_of_rows(held, rows).to(features.device)

    return compute


# What it may hold -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """Tensors that belong together: their sizes in letters, by name, and which are whole numbers.

    Equal letters are equal sizes; what has none is a number. Without `compute` it is what n-grams
    of texts give.
    """

    compute: Compute | None
    shapes: Mapping[str, str]
    whole: tuple[str, ...] = ()
    text: tuple[str, ...] = ()

    @property
    def numbers(self) -> tuple[str, ...]:
        return tuple(name for name, letters in self.shapes.items() if not letters)


_NODES = dict.fromkeys(("feature", "threshold", "left", "right"), "n")
_KINDS = (
    _Kind(compute=_linear, shapes={"weight": "od", "bias": "o"}),
    _Kind(compute=_cosine, shapes={"directions": "od"}),
    _Kind(
        compute=_cached,
        shapes={"directions": "od", "keys": "md", "values": "mo", "alpha": "", "beta": ""},
    ),
    _Kind(
        compute=_neighbours,
        shapes={
            "bank": "md",
            "answers": "mo",
            "log_weights": "m",
            **dict.fromkeys(("k", "temperature", "link"), ""),
        },
        whole=("k", "link"),
    ),
    _Kind(
        compute=_gaussians,
        shapes={
            "support": "md",
            "coefficients": "om",
            "bias": "o",
            "gamma": "",
            "shift": "d",
            "scale": "d",
        },
    ),
    _Kind(
        compute=_trees,
        shapes={**_NODES, "roots": "t", "values": "no", "depth": "", "link": ""},
        whole=("feature", "left", "right", "roots", "depth", "link"),
    ),
    _Kind(
        compute=None,
        shapes={
            "terms": "b",
            "idf": "t",
            "weight": "ot",
            "bias": "o",
            **dict.fromkeys(("unit", "shortest", "longest"), ""),
        },
        whole=("unit", "shortest", "longest"),
        text=("terms",),
    ),
)


def _kind(tensors: Held, features: int, outputs: int) -> _Kind:
    """What the tensors are; raises `ValueError` where they do not belong together."""
    found = next((kind for kind in _KINDS if kind.shapes.keys() == tensors.keys()), None)
    if found is None:
        raise ValueError(f"no fitted head holds {', '.join(sorted(tensors))}")
    sizes = {"d": features, "o": outputs}
    for name, letters in found.shapes.items():
        tensor = tensors[name]
        fits = tensor.ndim == len(letters) and all(
            sizes.setdefault(letter, size) == size
            for letter, size in zip(letters, tensor.shape, strict=True)
        )
        kinds = (tensor.dtype == torch.int64, tensor.dtype == torch.uint8)
        if not fits or kinds != (name in found.whole, name in found.text):
            raise ValueError(f"{name} of a fitted head has the wrong shape or type")
    limits = {
        "feature": (0, features - 1),
        **dict.fromkeys(("left", "right", "roots"), (0, sizes.get("n", 0) - 1)),
        "k": (1, sizes.get("m", 0)),
        "link": (AS_IT_IS, LOGIT),
        "depth": (0, MAX_DEPTH),
        "unit": (0, len(UNITS) - 1),
        **dict.fromkeys(("shortest", "longest"), (1, MAX_LENGTH)),
    }
    for name in found.whole:
        low, high = limits[name]
        if (
            not tensors[name].numel()
            or not low <= int(tensors[name].min())
            or (int(tensors[name].max()) > high)
        ):
            raise ValueError(f"{name} of a fitted head must lie in [{low}, {high}]")
    for name in set(found.numbers) - set(found.whole):
        if not (isfinite(tensors[name].item()) and tensors[name].item() > 0):
            raise ValueError(f"{name} of a fitted head must be above 0")
    return found
