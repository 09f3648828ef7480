"""NorMuon: Muon's orthogonal update, normalised over its rows and as large as Adam's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from solver.training.muon import NorMuon, orthogonalise

SHAPES = [(24, 24), (40, 12), (12, 40)]


def random_matrix(shape: tuple[int, int], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def moved_by(optimizer: torch.optim.Optimizer, matrix: Tensor, gradients: list[Tensor]) -> Tensor:
    for gradient in gradients:
        matrix.grad = gradient.clone()
        optimizer.step()
    return matrix.detach()


@pytest.mark.parametrize("shape", SHAPES)
def test_without_the_normaliser_it_goes_where_muon_goes(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sizes differ slightly, because the singular values of Muon's update are not exactly 1."""
    monkeypatch.setattr(NorMuon, "_even_out", lambda _, update, *rest: update)
    normuon_matrix = torch.nn.Parameter(torch.zeros(shape))
    muon_matrix = torch.nn.Parameter(torch.zeros(shape))
    normuon = NorMuon([normuon_matrix], 0.5, 0.0)
    muon = torch.optim.Muon([muon_matrix], 0.5, 0.0, adjust_lr_fn="match_rms_adamw")
    for seed in range(3):
        updates = []
        for optimizer, matrix in ((normuon, normuon_matrix), (muon, muon_matrix)):
            before = matrix.detach().clone()
            update = moved_by(optimizer, matrix, [random_matrix(shape, seed)]) - before
            updates.append(update)
        assert_close(*(update / update.norm() for update in updates), rtol=0, atol=1e-6)
        assert updates[0].norm() == pytest.approx(float(updates[1].norm()), rel=0.35)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_orthogonal_matrix_is_that_of_muon_bit_for_bit(shape: tuple[int, int]) -> None:
    gradient = random_matrix(shape, 1)
    matrix = torch.nn.Parameter(torch.zeros(shape))
    muon = torch.optim.Muon([matrix], 1.0, 0.0, momentum=0.0, adjust_lr_fn="match_rms_adamw")
    change = moved_by(muon, matrix, [gradient])
    assert_close(-change, orthogonalise(gradient).float() * 0.2 * max(shape) ** 0.5, rtol=1e-6, atol=0)


def test_in_float64_it_is_nearly_orthogonal() -> None:
    values = torch.linalg.svdvals(orthogonalise(random_matrix((12, 30), 2, torch.float64)))
    assert values.dtype == torch.float64
    assert 0.6 < values.min() < values.max() < 1.3


def test_by_hand() -> None:
    """Two steps in float64 equal the formulas: momentum, orthogonal matrix, mean squares of its rows, size, decay."""
    lr = 0.3
    decay = 0.5
    mu = 0.95
    beta2 = 0.95
    start, *gradients = (random_matrix((6, 4), seed, torch.float64) for seed in (3, 4, 5))
    matrix = torch.nn.Parameter(start.clone())
    change = moved_by(NorMuon([matrix], lr, decay), matrix, gradients)
    expected = start
    momentum = torch.zeros_like(start)
    square = torch.zeros(6, 1, dtype=torch.float64)
    for gradient in gradients:
        momentum = mu * momentum + (1 - mu) * gradient
        update = orthogonalise((1 - mu) * gradient + mu * momentum)
        square = beta2 * square + (1 - beta2) * (update**2).mean(1, keepdim=True)
        even = update / square.sqrt()
        expected = expected * (1 - lr * decay) - lr * 0.2 * even * 24**0.5 / even.norm()
    assert_close(change, expected, rtol=1e-8, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(1, 3), st.floats(-6, 6))
def test_every_update_is_as_large_as_adams(rows: int, columns: int, steps: int, exponent: float) -> None:
    matrix = torch.nn.Parameter(torch.zeros(rows, columns))
    optimizer = NorMuon([matrix], 0.5, 0.0)
    gradients = [random_matrix((rows, columns), seed) * 10**exponent for seed in range(steps)]
    before = moved_by(optimizer, matrix, gradients[:-1]).clone()
    update = moved_by(optimizer, matrix, gradients[-1:]) - before
    assert update.square().mean().sqrt().item() == pytest.approx(0.5 * 0.2, rel=1e-3)
    if steps == 1:
        sizes = update.square().mean(1).sqrt()
        assert_close(sizes, torch.full_like(sizes, 0.1), rtol=1e-2, atol=0)


def test_without_a_gradient_a_matrix_only_decays() -> None:
    matrix = torch.nn.Parameter(torch.ones(3, 2))
    NorMuon([matrix], 0.1, 0.5).step()
    assert_close(matrix.detach(), torch.full((3, 2), 0.95))
