"""One policy for convolutions and matrix products, which leaves no trace behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.runs.doctor import doctor
from bench.system.gpu_arithmetic import WORKSPACE, WORKSPACE_VARIABLE, gpu_arithmetic, policy
from bench.system.machine import arithmetic, describe_machine
from tests.emulated_device import emulated_device

CUDA = torch.device("cuda")


def _precisions() -> list[str]:
    cudnn: Any = torch.backends.cudnn
    return [kind.fp32_precision for kind in (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)]


def test_within_there_is_no_tf32_and_afterwards_all_is_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(WORKSPACE_VARIABLE, raising=False)
    before = _precisions()
    assert "tf32" in before
    with gpu_arithmetic(torch.device("cpu")):
        assert _precisions() == before
    with gpu_arithmetic(CUDA):
        assert _precisions() == ["ieee"] * 3
    assert _precisions() == before
    assert policy() == {"tf32": False, "cublas_workspace": WORKSPACE}


def test_a_workspace_that_somebody_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE_VARIABLE, ":16:8")
    with gpu_arithmetic(CUDA):
        assert policy()["cublas_workspace"] == ":16:8"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real device")
def test_it_is_told_and_no_switch_of_the_process_changes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with emulated_device():
        before = arithmetic("cuda")
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        assert arithmetic("cuda") == before
        assert before["tf32"] is False
        assert describe_machine("cuda")["tf32"] is False
        assert "without TF32" in str(doctor())
    assert "tf32" not in describe_machine("cpu")
