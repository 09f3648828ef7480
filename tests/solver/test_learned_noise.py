"""Learnt noise: its divergence, its bound on the evidence, and what it does to training and to prediction."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal as Reference
from torch.distributions import kl_divergence as reference_kl
from torch.testing import assert_close

from solver.data.batches import Batch
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
    """With a prior and a posterior that are no longer what they start as."""
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
    q, p = normals(0, (5, 7)), normals(1, (5, 7))
    expected = reference_kl(Reference(q.mean, q.log_width.exp()), Reference(p.mean, p.log_width.exp())).sum(-1)
    assert_close(kl_divergence(q, p), expected)
    assert_close(kl_divergence(q, q), torch.zeros(5, dtype=torch.float64))


def log_density(normal: Normal, e: Tensor) -> Tensor:
    return Reference(normal.mean, normal.log_width.exp()).log_prob(e).flatten(1).sum(1)


def test_the_loss_is_a_bound_on_the_evidence_that_sampling_finds() -> None:
    """One transition from fixed latents: log p(y|x), its bound, and what the model's own loss says of both."""
    model, draws = stirred(make_model(replace(NOISY, id_slots=1, vocabulary=4, max_steps=1)), 0.003).double(), 20_000
    model.precision = torch.float64
    batch = make_batch([2] * draws)
    same = batch.each(lambda tensor: tensor[:1].repeat(len(batch), *[1] * (tensor.ndim - 1)))
    same = replace(same, tokens_BS=same.tokens_BS % 3 + 1, labels_BS=same.labels_BS % 3 + 1)
    table = PuzzleEmbedding(1, 16)
    table.weights_PI = table.weights_PI.double()
    chance, latents = NoiseSource(make_keys(torch.arange(draws)[:, None].numpy())), model.initial_latents(draws, 2)
    output = model(latents, same, table.lookup(same.puzzles_B), chance=chance, told="charged")
    loss = losses(output, same.labels_BS, evidence=EvidenceConfig(untold=0), kl_weight=1.0)
    bound = -2 * float(loss.cells + loss.kl) / draws  # of both cells, in nats

    with torch.no_grad():
        u_BSD = _before_noise(model, latents, same, table)
        part = model.get_submodule("guidance_h")
        assert isinstance(part, Guidance)
        target_BSD = torch.cat((torch.zeros_like(u_BSD[:, :1]), 4.0 * model.token_embedding(same.labels_BS)), dim=1)
        prior, posterior = part.prior(u_BSD), part.posterior(torch.cat((u_BSD, target_BSD), dim=-1))
        torch.manual_seed(2)
        from_prior, from_posterior = (
            normal.mean + normal.log_width.exp() * torch.randn_like(normal.mean) for normal in (prior, posterior)
        )

        def log_likelihood(e_BSD: Tensor) -> Tensor:
            logits_BCV = model.read_cells(u_BSD + e_BSD, same.symbols_BV)
            return log_stablemax(logits_BCV, same.labels_BS[..., None])[..., 0].sum(1)

        evidence = _log_mean(log_likelihood(from_prior))
        weights_B = log_density(prior, from_posterior) - log_density(posterior, from_posterior)
        by_posterior = _log_mean(log_likelihood(from_posterior) + weights_B)
        estimated = float((log_likelihood(from_posterior) + weights_B).mean())
    assert evidence == pytest.approx(by_posterior, abs=0.05), "both ways of sampling find the same evidence"
    assert bound == pytest.approx(estimated, abs=0.05), "the loss is the bound, with the divergence in closed form"
    assert bound < evidence - 0.02, "and it is one"


def _before_noise(model: RecursiveModel, latents: Latents, batch: Batch, table: PuzzleEmbedding) -> Tensor:
    """What the network of z_h gives, before noise: the same weights without guidance."""
    plain = RecursiveModel(replace(model.config, recursion=TRM)).double()
    plain.precision = torch.float64
    plain.load_state_dict(
        {name: value for name, value in model.state_dict().items() if not name.startswith(("guidance", "value"))}
    )
    return plain(latents, batch, table.lookup(batch.puzzles_B)).latents["z_h"]


def _log_mean(values_B: Tensor) -> float:
    return float(values_B.logsumexp(0) - torch.tensor(float(len(values_B))).log())


def test_free_bits_balance_and_weight_charge_what_they_say() -> None:
    model, batch, table = stirred(make_model(NOISY)), make_batch([4, 3]), PuzzleEmbedding(2, 16)
    chance = NoiseSource(make_keys([[1], [2]]))
    output = model(model.initial_latents(2, 4), batch, table.lookup(batch.puzzles_B), chance=chance, told="charged")
    plain_evidence = EvidenceConfig(untold=0)
    free, half = replace(plain_evidence, free_bits=1e4), replace(plain_evidence, kl_balance=0.5)
    plain = losses(output, batch.labels_BS, kl_weight=2.0)
    without = losses(output, batch.labels_BS)
    assert (plain.total - without.total).item() == pytest.approx(2 * float(plain.kl), rel=1e-5)
    assert_close(losses(output, batch.labels_BS, evidence=half).kl, plain.kl)
    charged = losses(output, batch.labels_BS, evidence=free, kl_weight=1.0)
    prior, posterior = (model.get_parameter(f"guidance_h.{name}.mlp.gate_up.weight") for name in ("prior", "posterior"))
    (flows,) = torch.autograd.grad(charged.total - charged.cells, prior, retain_graph=True, allow_unused=True)
    assert flows is None or not flows.any(), "what is free has no gradient"
    sizes = {}
    for balance in (0.0, 0.8, 1.0):
        total = losses(output, batch.labels_BS, evidence=EvidenceConfig(kl_balance=balance), kl_weight=1.0).total
        kl_alone = total - losses(output, batch.labels_BS).total
        found = torch.autograd.grad(kl_alone, (prior, posterior), retain_graph=True)
        sizes[balance] = [float(each.norm()) for each in found]
    assert sizes[1.0][0] > 0
    assert sizes[1.0][1] == pytest.approx(0, abs=1e-6)
    assert sizes[0.0][1] > 0
    assert sizes[0.8][0] == pytest.approx(0.8 * sizes[1.0][0], rel=0.3)


def test_a_share_of_the_cells_loss_is_of_the_answer_that_was_not_told() -> None:
    model, batch, table = stirred(make_model(NOISY)), make_batch([4, 3]), PuzzleEmbedding(2, 16)
    chance, ids_BI, latents = (
        NoiseSource(make_keys([[1], [2]])),
        table.lookup(batch.puzzles_B),
        model.initial_latents(2, 4),
    )
    output = model(latents, batch, ids_BI, chance=chance, told="charged")
    by_prior = model(latents, batch, ids_BI, chance=chance)
    assert output.judged_BCV is not None
    assert_close(output.judged_BCV, by_prior.logits_BCV), "one transition: the prior's own answer"
    told, untold = losses(output, batch.labels_BS, evidence=EvidenceConfig(untold=0)), losses(by_prior, batch.labels_BS)
    mixed = losses(output, batch.labels_BS, evidence=EvidenceConfig(untold=0.25))
    assert_close(mixed.total - told.total, 0.25 * (untold.cells - told.cells))
    assert_close(told.exact_B, untold.exact_B), "accuracy is of the prior's answer"


def test_the_weight_warms_up() -> None:
    evidence = EvidenceConfig(kl_weight=0.5, kl_warmup=0.2)
    assert [evidence.weight_at(step, 100) for step in (1, 10, 20, 100)] == pytest.approx([0.025, 0.25, 0.5, 0.5])
    assert EvidenceConfig(kl_weight=0.5, kl_warmup=0).weight_at(1, 100) == 0.5


@pytest.mark.parametrize("changes", [{"noise": "naive"}, {}])
def test_without_temperature_every_trajectory_is_the_one_that_follows_the_mean(changes: dict) -> None:
    model, table = make_model(replace(NOISY, **changes)), PuzzleEmbedding(1, 16)
    model = stirred(model) if not changes else model
    batch = make_batch([4]).each(lambda tensor: tensor.expand(5, *tensor.shape[1:]))
    keys_B = make_keys([[0, trajectory] for trajectory in range(5)])
    *_, cold = predict_steps(model, table, batch, 3, NoiseSource(keys_B, temperature=0.0))
    *_, one = predict_steps(model, table, batch.each(lambda tensor: tensor[:1]), 3)
    *_, warm = predict_steps(model, table, batch, 3, NoiseSource(keys_B))
    assert_close(cold.logits_BCV, one.logits_BCV.expand_as(cold.logits_BCV), rtol=1e-5, atol=1e-6)
    apart = (warm.logits_BCV[:, None] - warm.logits_BCV).abs().amax((2, 3)) + torch.eye(5)
    assert apart.min() > 1e-3, "with it, no two are the same"


def test_naive_noise_of_no_width_is_the_model_without_noise() -> None:
    noisy, plain = make_model(replace(NOISY, noise="naive", noise_width=1e-12)), make_model(CONFIG)
    plain = make_model(replace(NOISY, recursion=TRM))
    noisy.load_state_dict(plain.state_dict(), strict=False)
    batch, table = make_batch([4, 3]), PuzzleEmbedding(2, 16)
    *_, one = predict_steps(noisy, table, batch, 3, NoiseSource(make_keys([[1], [2]])))
    *_, other = predict_steps(plain, table, batch, 3)
    assert_close(one.logits_BCV, other.logits_BCV)


def test_the_posterior_knows_the_target_and_prediction_does_not() -> None:
    learner = make_learner(
        make_model(replace(NOISY, hidden=32, max_steps=1)), evidence=EvidenceConfig(kl_weight=1e-4), lr=3e-3
    )
    batch = make_batch([4] * 4)
    shuffled = replace(batch, labels_BS=batch.labels_BS[torch.tensor([1, 0, 3, 2])])
    for step in range(150):  # the same input has now this answer, now that
        learner.step(batch if step % 2 else shuffled)
    model, ids_BI = learner.model, learner.table.lookup(batch.puzzles_B)
    latents, chance = model.initial_latents(4, 4), NoiseSource(make_keys([[row] for row in range(4)]))
    told = [model(latents, each, ids_BI, chance=chance, told="charged").logits_BCV for each in (batch, shuffled)]
    for logits_BCV, each in zip(told, (batch, shuffled), strict=True):
        assert (logits_BCV.argmax(-1) == each.labels_BS).float().mean() > 0.9, "the posterior has read the answer"
    asked = [model(latents, each, ids_BI, chance=chance).logits_BCV for each in (batch, shuffled)]
    assert_close(*asked, rtol=0, atol=0)


def test_chunks_change_nothing_that_is_learnt() -> None:
    found = []
    for micro_batch in (None, 1):
        learner = make_learner(stirred(make_model(NOISY)), micro_batch=micro_batch)
        for first in (0, 4):
            result = learner.step(make_batch([3, 4, 2, 4], first))
        found.append((result.losses.kl, result.losses.value, *learner.model.parameters()))
    for one, other in zip(*found, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_figures_are_of_each_example_and_the_value_head_learns_the_share_that_is_right() -> None:
    learner = make_learner(make_model(replace(NOISY, max_steps=1)), lr=1e-2, total_steps=400)
    batch = make_batch([4, 4])
    for _ in range(120):
        result = learner.step(batch)
    assert set(result.output.figures) == {"prior_width", "posterior_width"}
    assert all(each.shape == (2,) and (each > 0).all() for each in result.output.figures.values())
    share = result.losses.correct_B / result.losses.labelled_B
    assert_close(result.output.value_B, share.float(), rtol=0, atol=0.2)
    assert LearnerConfig().evidence.kl_weight == 0.1


def test_a_slots_chance_is_the_same_however_many_processes_share_the_batch() -> None:
    alone, second = make_learner(make_model(NOISY)), make_learner(make_model(NOISY))
    alone.sizes, second.sizes = [5], [2, 3]
    second.processes.index, second.processes.count = 1, 2
    whole, part = alone._noise_source(7, np.arange(5)), second._noise_source(7, np.arange(3))
    assert whole is not None
    assert part is not None
    assert_close(part.keys_B, whole.keys_B[2:], rtol=0, atol=0)
