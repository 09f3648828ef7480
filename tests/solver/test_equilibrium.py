"""Fixed points: convergence of the solver, and the gradient through the fixed point."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from solver.model.config import EquilibriumConfig, ModelConfig, Solver
from solver.model.equations import EQUILIBRIUM, RecursionConfig
from solver.model.equilibrium import attach_gradient, solve_fixed_point
from solver.model.model import RecursiveModel
from solver.model.packing import Padding
from solver.model.puzzle_embedding import PuzzleEmbedding
from tests.helpers.small_model import CONFIG, make_batch, make_learner, make_model

TIGHT = EquilibriumConfig(iterations=200, tolerance=1e-12)
PADDING = Padding((3, 4))


def contraction(seed: int = 0, strength: float = 0.6) -> tuple[Tensor, Tensor]:
    """Return a matrix whose largest singular value is `strength`, and an input (T, D), both with gradient."""
    generator = torch.Generator().manual_seed(seed)
    matrix, x_TD = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((5, 5), (12, 5)))
    return (strength * matrix / torch.linalg.matrix_norm(matrix, 2)).requires_grad_(), x_TD.requires_grad_()


def gradients(config: EquilibriumConfig) -> tuple[Tensor, ...]:
    matrix, x_TD = contraction()

    def update(z_TD: Tensor) -> Tensor:
        return torch.tanh(z_TD @ matrix.T + x_TD)

    settled = solve_fixed_point(update, torch.zeros(12, 5, dtype=torch.float64), PADDING, config)
    z_TD = attach_gradient(update, settled, PADDING, config, torch.zeros(3))
    return torch.autograd.grad(z_TD.square().sum(), (matrix, x_TD))


def unrolled(updates: int, of_them: int | None = None) -> tuple[Tensor, ...]:
    """Return the gradients from backpropagation through the last `of_them` of `number` updates."""
    matrix, x_TD = contraction()
    z_TD = torch.zeros(12, 5, dtype=torch.float64)
    for number in range(updates):
        if of_them is not None and number == updates - of_them:
            z_TD = z_TD.detach()
        z_TD = torch.tanh(z_TD @ matrix.T + x_TD)
    return torch.autograd.grad(z_TD.square().sum(), (matrix, x_TD))


@pytest.mark.parametrize("method", ["plain", "anderson"])
def test_the_implicit_gradient_is_that_of_unrolling_without_end(method: Solver) -> None:
    results = gradients(replace(TIGHT, method=method))
    expected = unrolled(200)
    for one, other in zip(results, expected, strict=True):
        assert_close(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("terms", [1, 2, 5])
def test_the_series_of_k_terms_is_backpropagation_through_the_last_k_updates(terms: int) -> None:
    results = gradients(replace(TIGHT, gradient="neumann", terms=terms))
    for one, other in zip(results, unrolled(200, terms), strict=True):
        assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_more_terms_come_closer_to_the_implicit_gradient() -> None:
    whole = gradients(TIGHT)[0]
    errors = [
        float((gradients(replace(TIGHT, gradient="neumann", terms=terms))[0] - whole).norm()) for terms in (1, 3, 9, 27)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 * errors[0]


def test_anderson_takes_fewer_updates_to_the_same_point() -> None:
    matrix, x_TD = (value.detach() for value in contraction(strength=0.98))
    methods: tuple[Solver, ...] = ("plain", "anderson")
    results = {
        method: solve_fixed_point(
            lambda z_TD: torch.tanh(z_TD @ matrix.T + x_TD),
            torch.zeros(12, 5, dtype=torch.float64),
            PADDING,
            EquilibriumConfig(method, 500, 1e-10),
        )
        for method in methods
    }
    assert_close(results["plain"].z_TD, results["anderson"].z_TD, rtol=1e-6, atol=1e-8)
    assert (2 * results["anderson"].iterations_B < results["plain"].iterations_B).all()
    assert (results["anderson"].residual_B < 1e-10).all()


@pytest.mark.parametrize("method", ["plain", "anderson"])
def test_an_example_settles_where_it_does_alone(method: Solver) -> None:
    matrix, x_TD = (value.detach() for value in contraction(strength=0.9))
    x_TD, config = x_TD * torch.tensor([0.1, 1.0, 4.0]).repeat_interleave(4)[:, None], EquilibriumConfig(method, 60)

    def run(rows: slice, padding: Padding) -> tuple[Tensor, Tensor]:
        part_TD = x_TD[rows]
        start_TD = torch.zeros_like(part_TD)
        fixed_point = solve_fixed_point(lambda z: torch.tanh(z @ matrix.T + part_TD), start_TD, padding, config)
        return fixed_point.z_TD, fixed_point.iterations_B

    together, iterations_B = run(slice(None), PADDING)
    assert len(iterations_B.unique()) > 1, "the examples converge after different numbers of updates"
    for example in range(3):
        rows = slice(4 * example, 4 * example + 4)
        alone, iterations = run(rows, Padding((1, 4)))
        assert_close(together[rows], alone)
        assert iterations == iterations_B[example]


def test_where_the_series_has_no_end_the_gradient_is_the_one_step_gradient() -> None:
    adjoint_B = torch.zeros(3, dtype=torch.float64)
    slope = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    at = torch.full((12, 5), 0.5, dtype=torch.float64)
    settled = replace(solve_fixed_point(lambda z: z, at, PADDING, TIGHT), z_TD=at)
    config = EquilibriumConfig("plain", 20)
    z_TD = attach_gradient(lambda z: slope * z - 0.5, settled, PADDING, config, adjoint_B)
    (gradient,) = torch.autograd.grad(z_TD.sum(), slope)
    assert_close(gradient, at.sum())
    assert (adjoint_B > 0.1).all()


SETTLING = replace(
    CONFIG, recursion=EQUILIBRIUM, hidden=32, equilibrium=EquilibriumConfig(iterations=100, tolerance=1e-9)
)


def doubled(config: ModelConfig) -> RecursiveModel:
    """Return a model in float64 with its initial weights, whose update is a contraction."""
    model = make_model(config).double()
    model.precision = torch.float64
    return model


def test_a_model_that_settles_has_the_gradient_of_one_that_goes_on_for_long() -> None:
    batch = make_batch([4, 3])
    results = []
    long = RecursionConfig(("z = f(z + x) * 400",), gradient="all")
    for config in (SETTLING, replace(SETTLING, recursion=long)):
        model = doubled(config)
        table = PuzzleEmbedding(2, 32)
        table.weights_PI = table.weights_PI.double()
        output = model(model.initial_latents(batch), batch, table.lookup(batch.puzzles_B))
        output.logits_BCV.square().sum().backward()
        results.append((output, model.get_parameter("network.0.mlp.down.weight").grad))
    (settled, one), (_, other) = results
    assert (settled.figures["residual"] < 1e-9).all()
    assert (settled.figures["iterations"] < 100).all()
    assert (settled.figures["adjoint_residual"] < 1e-9).all()
    assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_residual_and_iterations_are_figures_of_training() -> None:
    learner = make_learner(make_model(replace(CONFIG, recursion=EQUILIBRIUM)))
    figures = learner.step(make_batch([4, 3, 2])).output.figures
    assert set(figures) == set(learner.model.config.figures) == {"residual", "iterations", "adjoint_residual"}
    assert all(value.shape == (3,) for value in figures.values())
    assert (figures["iterations"] >= 1).all()


@pytest.mark.parametrize(
    ("updates", "words"),
    [
        (("z = f(x) * fixed_point",), "reads its own latent"),
        (("z = f(z + x) + e * fixed_point",), "adds no noise"),
        (("z = f(z + x) * fixed",), "is no equation"),
        (("z = f(z + x) + n",), "is no equation"),
    ],
)
def test_equations_that_cannot_be_are_refused(updates: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RecursionConfig(updates)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "broyden"}, "equilibrium.method = 'broyden': must be one of plain, anderson"),
        ({"iterations": 0}, "equilibrium.iterations = 0: must be at least 1"),
        ({"tolerance": 1.0}, "equilibrium.tolerance = 1.0: must be between 0 and 1"),
        ({"memory": 1}, "equilibrium.memory = 1: must be at least 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EquilibriumConfig(**changes)
