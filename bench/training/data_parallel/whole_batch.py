"""What a network asks of a whole batch, while each rank computes some of its rows.

Two things in a forward pass look beyond a sample: batch norm, whose mean and variance are those of
the batch, and dropout with its kin, whose masks are drawn for the batch at once. Within
`whole_batch` both are what they are in one process. Calls are caught, not modules exchanged: names,
states and frozen layers stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.training.caught_calls import BatchNorm, Caught
from bench.training.data_parallel.ranks import Shard


@contextmanager
def whole_batch(shard: Shard) -> Iterator[None]:
    """A forward pass of the rows of `shard` with the statistics and the draws of its whole piece.

    All ranks must be in it at once, with equal random states.
    """
    with _batch_statistics(shard), _Draws(shard):
        yield


# Batch norm -----------------------------------------------------------------------------------


def _batch_statistics(shard: Shard) -> Caught:
    def of_all(*args: Any, **kwargs: Any) -> Tensor:
        call = BatchNorm(*args, **kwargs)
        if not call.training:
            return call.result()
        return batch_norm(
            call.input,
            call.running_mean,
            call.running_var,
            call.weight,
            call.bias,
            call.momentum,
            call.eps,
            shard.counts,
        )

    return Caught(F.batch_norm, of_all)


def batch_norm(
    rows: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    counts: bool = True,
) -> Tensor:
    """`F.batch_norm` in training mode of the rows `[n, C, ...]` of all ranks together.

    Rows that do not count are normalised, and change nothing else. Means and squared deviations of
    the ranks are merged as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm
    for Computing Sample Variances" (1979), in double precision. Raises `ValueError` where each
    channel has one value only.
    """
    result: tuple[Tensor, ...] = _BatchNorm.apply(rows, weight, bias, eps, counts)
    normalised, mean, var, values = result
    if running_mean is not None and running_var is not None:
        unbiased = var * (values / (values - 1))
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    return normalised


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        counts: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, var, values = _merged(rows, counts)
        if values < 2:
            raise ValueError(
                "Expected more than 1 value per channel when training, got input size "
                f"{list(rows.shape)}"
            )
        wide = torch.promote_types(rows.dtype, torch.float32)
        own_mean, own_var = mean.to(wide), var.to(wide)
        ctx.save_for_backward(rows, weight, own_mean, own_var)
        ctx.eps, ctx.counts, ctx.values = eps, counts, float(values)
        ctx.mark_non_differentiable(mean, var, values)
        return F.batch_norm(rows, own_mean, own_var, weight, bias, eps=eps), mean, var, values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, mean, var = ctx.saved_tensors
        # As if mean and variance were given: what flows through them is added below.
        through, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], rows, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        if ctx.needs_input_grad[0]:
            sums = torch.stack([by_weight, by_bias])
            dist.all_reduce(sums)
            if ctx.counts:
                to_weight, to_bias = sums / ctx.values
                deviation = (var + ctx.eps).rsqrt()
                scale = deviation if weight is None else deviation * weight
                shape = (1, -1, *(1,) * (rows.ndim - 2))
                centred = rows - mean.view(shape)
                through = through.addcmul(centred, -(scale * deviation * to_weight).view(shape))
                through = through.sub_((scale * to_bias).view(shape)).to(rows.dtype)
        by_weight = by_weight if ctx.needs_input_grad[1] else None
        by_bias = by_bias if ctx.needs_input_grad[2] else None
        return through, by_weight, by_bias, None, None


def _merged(rows: Tensor, counts: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Mean `[C]`, variance `[C]` (by n) and number of values a channel over all ranks."""
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    own_mean, own_var = torch.batch_norm_update_stats(wide, None, None, 0.0)
    values = rows.numel() // rows.shape[1] if counts else 0
    own = torch.cat([own_mean, own_var, own_mean.new_tensor([values])]).double()
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, own)
    of_ranks = torch.stack(gathered)
    channels = rows.shape[1]
    means, variances = of_ranks[:, :channels], of_ranks[:, channels:-1]
    shares = of_ranks[:, -1:] / of_ranks[:, -1].sum()
    mean = (shares * means).sum(dim=0)
    var = (shares * (variances + (means - mean).square())).sum(dim=0)
    return mean, var, of_ranks[:, -1].sum()


# Draws ----------------------------------------------------------------------------------------


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Draws masks for the whole piece and takes the rows of this rank.

    Dropout, also that of attention, and stochastic depth come down to two operations. Whatever
    else draws is refused: each rank would draw the same for other rows.
    """

    def __init__(self, shard: Shard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shard = shard

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **options)
        if func is torch.ops.aten.bernoulli_.float:
            mask: Tensor = args[0]
            return mask.copy_(self._own(func(self._whole(mask), *args[1:], **options), mask))
        if func is torch.ops.aten.native_dropout.default:
            rows: Tensor = args[0]
            scaled, kept = func(self._whole(rows).fill_(1), *args[1:], **options)
            return rows * self._own(scaled, rows), self._own(kept, rows).contiguous()
        return _without_draws(func, args, options)

    def _whole(self, rows: Tensor) -> Tensor:
        """An empty tensor for the whole piece, laid out in memory like that of these rows."""
        times = self._rows_a_sample(rows)
        if not times:
            return torch.empty_like(rows)
        piece = self._shard.piece
        total = times * (piece.stop - piece.start)
        last = torch.channels_last
        lies_so = rows.ndim == 4 and not rows.is_contiguous()
        return torch.empty(
            (total, *rows.shape[1:]),
            dtype=rows.dtype,
            device=rows.device,
            memory_format=last if lies_so else torch.contiguous_format,
        )

    def _own(self, whole: Tensor, rows: Tensor) -> Tensor:
        times = self._rows_a_sample(rows)
        if not times:
            return whole
        start = times * (self._shard.rows.start - self._shard.piece.start)
        return whole[start : start + len(rows)]

    def _rows_a_sample(self, rows: Tensor) -> int:
        """Such as the windows of an image; 0 for one draw that is for all samples."""
        count = len(rows) if rows.ndim else 1
        times, rest = divmod(count, self._shard.size)
        if rest and count > 1:
            raise RuntimeError(
                f"a mask of shape {list(rows.shape)} cannot be split by samples; "
                "leave out devices_per_trial for this backbone"
            )
        return times


def _without_draws(func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The result of an operation that may draw and, as it is called here, does not."""
    before = _random_states()
    result = func(*args, **options)
    if any(not a.equal(b) for a, b in zip(before, _random_states(), strict=True)):
        raise RuntimeError(
            f"{func} draws random numbers, which the ranks of a trial cannot share; "
            "leave out devices_per_trial for this backbone"
        )
    return result


def _random_states() -> list[Tensor]:
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states.append(torch.cuda.get_rng_state())
    return states
