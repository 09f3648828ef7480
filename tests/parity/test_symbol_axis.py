"""Parity of the symbol axis with the published SE-RRM: logits, latents and gradients from its weights."""

from dataclasses import replace
from typing import Any

import torch
from torch.testing import assert_close

from solver.data.batch import Batch
from solver.model.config import ModelConfig
from solver.model.equations import UNIVERSAL
from solver.model.model import RecursiveModel
from solver.model.output import Output
from solver.model.positions import padding_of
from solver.training.loss import losses
from tests.helpers.golden_set import SymbolRows, se_rrm_part

ATTENTIONS = {"attn": "mixer", "attn_t": "symbols"}
LINEAR = {"qkv_proj": "qkv", "o_proj": "out", "gate_up_proj": "gate_up", "down_proj": "down"}


def our_name(name: str) -> str:
    """Return our parameter name, as "network.0.symbols.qkv.weight" for "L_level.layers.0.attn_t.qkv_proj.weight"."""
    *_, layer, part, linear, _ = name.split(".")
    return f"network.{layer}.{ATTENTIONS.get(part, part)}.{LINEAR[linear]}.weight"


def make_model(golden: SymbolRows, **changes: Any) -> RecursiveModel:
    published = golden.config
    config = ModelConfig(
        **{
            "hidden": published["hidden_size"],
            "heads": published["num_heads"],
            "symbol_heads": published["num_heads_t"],
            "layers": published["L_layers"],
            "h_cycles": published["H_cycles"],
            "l_cycles": published["L_cycles"],
            "recursion": UNIVERSAL,
            "board_side": golden.about["side"],
            "id_slots": 0,
            "symbols": True,
            "halting": "random",
            "palette": "all",
            "positions": "rope2d",
            "max_steps": published["halt_max_steps"],
        }
        | changes
    )
    model = RecursiveModel(config)
    model.loss = "softmax"  # by which the published code computes its confidence
    embedding = torch.cat([golden.weights["embed_special_tokens"], golden.weights["embed_symbol_tokens"]], dim=1)
    with torch.no_grad():
        model.symbol_embedding.present.copy_(embedding[0, :, 0])
    weights = {our_name(name): tensor for name, tensor in golden.weights.items() if name.startswith("L_level")}
    weights |= {"cell_head.weight": golden.weights["lm_head.weight"], "start": golden.weights["Z_init"]}
    keys = model.load_state_dict(weights, strict=False)
    assert not keys.unexpected_keys
    assert keys.missing_keys == ["symbol_embedding.present", "symbol_embedding.absent"]
    return model


def make_inputs(golden: SymbolRows) -> tuple[Batch, torch.Tensor]:
    """Return the batch and its ID vectors; a published scalar per symbol becomes a vector of equal values."""
    figures = golden.figures
    tokens, labels, puzzles = (figures[name] for name in ("inputs", "labels", "puzzle_identifiers"))
    batch = Batch(tokens, labels, torch.arange(tokens.shape[1]).expand_as(tokens).clone(), puzzles)
    hidden = golden.config["hidden_size"]
    rows = golden.weights["puzzle_emb.weights"][puzzles]
    ids_BI = torch.cat([rows[:, :hidden], rows[:, hidden:].repeat_interleave(hidden, dim=1)], dim=1)
    return batch, ids_BI.requires_grad_()


def run_steps(model: RecursiveModel, batch: Batch, ids_BI: torch.Tensor, steps: int) -> list[Output]:
    latents = model.initial_latents(batch)
    outputs = []
    for _ in range(steps):
        outputs.append(model(latents, batch, ids_BI))
        latents = outputs[-1].latents
    return outputs


def test_three_supervision_steps() -> None:
    golden = se_rrm_part()
    model = make_model(golden)
    batch, ids_BI = make_inputs(golden)
    unlabelled = replace(batch, labels_BS=torch.zeros_like(batch.labels_BS))
    with torch.no_grad():
        outputs = run_steps(model, unlabelled, ids_BI, 3)
    cells = golden.about["cells_of_z"]
    for number, output in enumerate(outputs, 1):
        expected = {name: golden.figures[f"eval.step{number}.{name}"] for name in ("logits", "output_prob", "z")}
        assert_close(output.logits_BCV, expected["logits"], atol=2e-5, rtol=1e-5)
        assert_close(output.halt_B.sigmoid(), expected["output_prob"], atol=2e-5, rtol=1e-4)
        z_BCVD = padding_of(model.config, batch).unpack(output.latents["z"]).unflatten(-1, (12, -1))
        assert_close(z_BCVD[:, cells].transpose(1, 2), expected["z"], atol=2e-5, rtol=1e-5)


def test_the_first_gradients() -> None:
    golden = se_rrm_part()
    model = make_model(golden)
    batch, ids_BI = make_inputs(golden)
    (output,) = run_steps(model, batch, ids_BI, 1)
    loss = losses(output, batch.labels_BS)
    assert_close(loss.cells, golden.figures["train.step1.lm_loss"][0].to(loss.cells), atol=1e-5, rtol=1e-6)
    (loss.total / golden.about["batch_divisor"]).backward()
    stride = golden.about["mlp_gradient_stride"]
    parameters = dict(model.named_parameters())
    for name, expected in golden.gradients.items():
        if not name.startswith("L_level"):
            continue
        gradient = parameters[our_name(name)].grad
        assert gradient is not None
        thinned = {"gate_up_proj": gradient[::stride], "down_proj": gradient[:, ::stride]}
        assert_close(thinned.get(name.split(".")[-2], gradient), expected, atol=1e-6, rtol=1e-4, msg=name)
    embedding = model.symbol_embedding.present.grad
    special, colours = (golden.gradients[f"embed_{kind}_tokens"] for kind in ("special", "symbol"))
    assert_close(embedding, torch.cat([special, colours], dim=1)[0, :, 0], atol=1e-6, rtol=1e-4)
    hidden = golden.config["hidden_size"]
    expected = golden.gradients["puzzle_emb.local"]
    assert ids_BI.grad is not None
    by_symbol = ids_BI.grad[:, hidden:].unflatten(1, (-1, hidden)).sum(-1)
    assert_close(torch.cat([ids_BI.grad[:, :hidden], by_symbol], dim=1), expected, atol=1e-6, rtol=1e-4)
