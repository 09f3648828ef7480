"""Learnt noise: its KL divergence, the evidence lower bound, and its effects on training and prediction."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal as Reference
from torch.distributions import kl_divergence as reference_kl
from torch.testing import assert_close

from solver.data.batch import Batch
from solver.model.config import EvidenceConfig
from solver.model.equations import GRAM, TRM
from solver.model.learned_noise import Guidance, Normal, kl_divergence
from solver.model.model import RecursiveModel
from solver.model.noise import NoiseSource, make_keys
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.model.recursion import Latents
from solver.training.deep_supervision import predict_steps
from solver.training.learner import LearnerConfig
from solver.training.loss import log_stablemax, losses
from tests.helpers.small_model import CONFIG, make_batch, make_learner, make_model

NOISY = replace(CONFIG, recursion=GRAM, expansion=2, inner_multiple=16)


def stirred(model: RecursiveModel, scale: float = 0.05) -> RecursiveModel:
    """Change the prior and the posterior at random, so that they no longer have their initial values."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("guidance") and "down" in name:
                parameter.normal_(std=scale)
    return model


def normals(seed: int, shape: tuple[int, ...]) -> Normal:
    generator = torch.Generator().manual_seed(seed)
    return Normal(*(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)))


def test_the_divergence_is_that_of_gaussians_in_closed_form() -> None:
    q = normals(0, (5, 7))
    p = normals(1, (5, 7))
    expected = reference_kl(Reference(q.mean, q.log_width.exp()), Reference(p.mean, p.log_width.exp())).sum(-1)
    assert_close(kl_divergence(q, p), expected)
    assert_close(kl_divergence(q, q), torch.zeros(5, dtype=torch.float64))


def log_density(normal: Normal, e: Tensor) -> Tensor:
    return Reference(normal.mean, normal.log_width.exp()).log_prob(e).flatten(1).sum(1)


def test_the_loss_is_a_bound_on_the_evidence_that_sampling_finds() -> None:
    """For one transition from fixed latents, compare log p(y|x) and its bound with the model's own loss."""
    model = stirred(make_model(replace(NOISY, id_slots=1, vocabulary=4, max_steps=1)), 0.003).double()
    draws = 20_000
    model.precision = torch.float64
    batch = make_batch([2] * draws)
    repeated = batch.each(lambda tensor: tensor[:1].repeat(len(batch), *[1] * (tensor.ndim - 1)))
    repeated = replace(repeated, tokens_BS=repeated.tokens_BS % 3 + 1, labels_BS=repeated.labels_BS % 3 + 1)
    table = PuzzleEmbedding(1, 16)
    table.weights_PI = table.weights_PI.double()
    chance = NoiseSource(make_keys(torch.arange(draws)[:, None].numpy()))
    latents = model.initial_latents(repeated)
    output = model(latents, repeated, table.lookup(repeated.puzzles_B), chance=chance, posterior="charged")
    loss = losses(output, repeated.labels_BS, evidence=EvidenceConfig(prior_share=0), kl_weight=1.0)
    bound = -2 * float(loss.cells + loss.kl) / draws  # of both cells, in nats

    with torch.no_grad():
        u_BSD = _before_noise(model, latents, repeated, table).view(draws, 3, -1)
        part = model.get_submodule("guidance_h")
        assert isinstance(part, Guidance)
        target_BSD = torch.cat((torch.zeros_like(u_BSD[:, :1]), 4.0 * model.token_embedding(repeated.labels_BS)), dim=1)
        prior = part.prior(u_BSD)
        posterior = part.posterior(torch.cat((u_BSD, target_BSD), dim=-1))
        torch.manual_seed(2)
        from_prior, from_posterior = (
            normal.mean + normal.log_width.exp() * torch.randn_like(normal.mean) for normal in (prior, posterior)
        )

        def log_likelihood(e_BSD: Tensor) -> Tensor:
            logits_BCV = model.read_cells((u_BSD + e_BSD).flatten(0, 1), repeated, model.layout(repeated))
            return log_stablemax(logits_BCV, repeated.labels_BS[..., None])[..., 0].sum(1)

        evidence = _log_mean(log_likelihood(from_prior))
        weights_B = log_density(prior, from_posterior) - log_density(posterior, from_posterior)
        by_posterior = _log_mean(log_likelihood(from_posterior) + weights_B)
        estimated = float((log_likelihood(from_posterior) + weights_B).mean())
    assert evidence == pytest.approx(by_posterior, abs=0.05), "both ways of sampling give the same evidence"
    assert bound == pytest.approx(estimated, abs=0.05), "the loss is the bound, with the divergence in closed form"
    assert bound < evidence - 0.02, "and it is a lower bound"


def _before_noise(model: RecursiveModel, latents: Latents, batch: Batch, table: PuzzleEmbedding) -> Tensor:
    """Return the output (R, D) of the network of z_h before noise, from the same weights without guidance."""
    plain = RecursiveModel(replace(model.config, recursion=TRM)).double()
    plain.precision = torch.float64
    plain.load_state_dict(
        {name: value for name, value in model.state_dict().items() if not name.startswith(("guidance", "value"))}
    )
    return plain(latents, batch, table.lookup(batch.puzzles_B)).latents["z_h"]


def _log_mean(values_B: Tensor) -> float:
    return float(values_B.logsumexp(0) - torch.tensor(float(len(values_B))).log())


def test_free_bits_balance_and_weight_charge_what_they_say() -> None:
    model = stirred(make_model(NOISY))
    batch = make_batch([4, 3])
    table = PuzzleEmbedding(2, 16)
    chance = NoiseSource(make_keys([[1], [2]]))
    ids_BI = table.lookup(batch.puzzles_B)
    output = model(model.initial_latents(batch), batch, ids_BI, chance=chance, posterior="charged")
    plain_evidence = EvidenceConfig(prior_share=0)
    free = replace(plain_evidence, free_bits=1e4)
    half = replace(plain_evidence, kl_balance=0.5)
    plain = losses(output, batch.labels_BS, kl_weight=2.0)
    without = losses(output, batch.labels_BS)
    assert (plain.total - without.total).item() == pytest.approx(2 * float(plain.kl), rel=1e-5)
    assert_close(losses(output, batch.labels_BS, evidence=half).kl, plain.kl)
    loss = losses(output, batch.labels_BS, evidence=free, kl_weight=1.0)
    prior, posterior = (model.get_parameter(f"guidance_h.{name}.mlp.gate_up.weight") for name in ("prior", "posterior"))
    (gradient,) = torch.autograd.grad(loss.total - loss.cells, prior, retain_graph=True, allow_unused=True)
    assert gradient is None or not gradient.any(), "free bits have no gradient"
    sizes = {}
    for balance in (0.0, 0.8, 1.0):
        total = losses(output, batch.labels_BS, evidence=EvidenceConfig(kl_balance=balance), kl_weight=1.0).total
        kl_alone = total - losses(output, batch.labels_BS).total
        gradients = torch.autograd.grad(kl_alone, (prior, posterior), retain_graph=True)
        sizes[balance] = [float(gradient.norm()) for gradient in gradients]
    assert sizes[1.0][0] > 0
    assert sizes[1.0][1] == pytest.approx(0, abs=1e-6)
    assert sizes[0.0][1] > 0
    assert sizes[0.8][0] == pytest.approx(0.8 * sizes[1.0][0], rel=0.3)


def test_a_share_of_the_cells_loss_is_of_the_answer_that_was_not_told() -> None:
    model = stirred(make_model(NOISY))
    batch = make_batch([4, 3])
    table = PuzzleEmbedding(2, 16)
    chance = NoiseSource(make_keys([[1], [2]]))
    ids_BI = table.lookup(batch.puzzles_B)
    latents = model.initial_latents(batch)
    output = model(latents, batch, ids_BI, chance=chance, posterior="charged")
    by_prior = model(latents, batch, ids_BI, chance=chance)
    assert output.prior_logits_BCV is not None
    assert_close(output.prior_logits_BCV, by_prior.logits_BCV), "one transition: the prior's own answer"
    posterior = losses(output, batch.labels_BS, evidence=EvidenceConfig(prior_share=0))
    prior_share = losses(by_prior, batch.labels_BS)
    mixed = losses(output, batch.labels_BS, evidence=EvidenceConfig(prior_share=0.25))
    assert_close(mixed.total - posterior.total, 0.25 * (prior_share.cells - posterior.cells))
    assert_close(posterior.exact_B, prior_share.exact_B), "accuracy is of the prior's answer"


def test_the_weight_warms_up() -> None:
    evidence = EvidenceConfig(kl_weight=0.5, kl_warmup=0.2)
    assert [evidence.weight_at(step, 100) for step in (1, 10, 20, 100)] == pytest.approx([0.025, 0.25, 0.5, 0.5])
    assert EvidenceConfig(kl_weight=0.5, kl_warmup=0).weight_at(1, 100) == 0.5


@pytest.mark.parametrize("changes", [{"noise": "naive"}, {}])
def test_without_temperature_every_trajectory_is_the_one_that_follows_the_mean(changes: dict) -> None:
    model = make_model(replace(NOISY, **changes))
    table = PuzzleEmbedding(1, 16)
    model = stirred(model) if not changes else model
    batch = make_batch([4]).each(lambda tensor: tensor.expand(5, *tensor.shape[1:]))
    keys_B = make_keys([[0, trajectory] for trajectory in range(5)])
    *_, cold = predict_steps(model, table, batch, 3, NoiseSource(keys_B, temperature=0.0))
    *_, one = predict_steps(model, table, batch.each(lambda tensor: tensor[:1]), 3)
    *_, warm = predict_steps(model, table, batch, 3, NoiseSource(keys_B))
    assert_close(cold.logits_BCV, one.logits_BCV.expand_as(cold.logits_BCV), rtol=1e-5, atol=1e-6)
    distances = (warm.logits_BCV[:, None] - warm.logits_BCV).abs().amax((2, 3)) + torch.eye(5)
    assert distances.min() > 1e-3, "with temperature, no two predictions are the same"


def test_naive_noise_of_no_width_is_the_model_without_noise() -> None:
    noisy = make_model(replace(NOISY, noise="naive", noise_width=1e-12))
    plain = make_model(CONFIG)
    plain = make_model(replace(NOISY, recursion=TRM))
    noisy.load_state_dict(plain.state_dict(), strict=False)
    batch = make_batch([4, 3])
    table = PuzzleEmbedding(2, 16)
    *_, one = predict_steps(noisy, table, batch, 3, NoiseSource(make_keys([[1], [2]])))
    *_, other = predict_steps(plain, table, batch, 3)
    assert_close(one.logits_BCV, other.logits_BCV)


def test_the_posterior_knows_the_target_and_prediction_does_not() -> None:
    learner = make_learner(
        make_model(replace(NOISY, hidden=32, max_steps=1)), evidence=EvidenceConfig(kl_weight=1e-4), lr=3e-3
    )
    batch = make_batch([4] * 4)
    shuffled = replace(batch, labels_BS=batch.labels_BS[torch.tensor([1, 0, 3, 2])])
    for step in range(150):  # the same input has different labels in different examples
        learner.step(batch if step % 2 else shuffled)
    model = learner.model
    ids_BI = learner.table.lookup(batch.puzzles_B)
    latents = model.initial_latents(batch)
    chance = NoiseSource(make_keys([[row] for row in range(4)]))
    posterior = [
        model(latents, each, ids_BI, chance=chance, posterior="charged").logits_BCV for each in (batch, shuffled)
    ]
    for logits_BCV, labelled in zip(posterior, (batch, shuffled), strict=True):
        assert (logits_BCV.argmax(-1) == labelled.labels_BS).float().mean() > 0.9, "the posterior has seen the labels"
    prior_logits = [model(latents, labelled, ids_BI, chance=chance).logits_BCV for labelled in (batch, shuffled)]
    assert_close(*prior_logits, rtol=0, atol=0)


def test_chunks_change_nothing_that_is_learnt() -> None:
    results = []
    for micro_batch in (None, 1):
        learner = make_learner(stirred(make_model(NOISY)), micro_batch=micro_batch)
        for first in (0, 4):
            result = learner.step(make_batch([3, 4, 2, 4], first))
        results.append((result.losses.kl, result.losses.value, *learner.model.parameters()))
    for one, other in zip(*results, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_figures_are_of_each_example_and_the_value_head_learns_the_share_that_is_right() -> None:
    learner = make_learner(make_model(replace(NOISY, max_steps=1)), lr=1e-2, total_steps=400)
    batch = make_batch([4, 4])
    for _ in range(120):
        result = learner.step(batch)
    assert set(result.output.figures) == {"prior_width", "posterior_width"}
    assert all(figure.shape == (2,) and (figure > 0).all() for figure in result.output.figures.values())
    share = result.losses.correct_B / result.losses.labelled_B
    assert_close(result.output.value_B, share.float(), rtol=0, atol=0.2)
    assert LearnerConfig().evidence.kl_weight == 0.1


def test_a_slots_chance_is_the_same_however_many_processes_share_the_batch() -> None:
    alone = make_learner(make_model(NOISY))
    second = make_learner(make_model(NOISY))
    alone.sizes = [5]
    second.sizes = [2, 3]
    second.processes.index = 1
    second.processes.count = 2
    whole = alone._noise_source(7, np.arange(5))
    part = second._noise_source(7, np.arange(3))
    assert whole is not None
    assert part is not None
    assert_close(part.keys_B, whole.keys_B[2:], rtol=0, atol=0)
