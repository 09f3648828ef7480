from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from solver.data.batch import Batch
from solver.model.config import ModelConfig
from solver.model.equations import TRM
from solver.model.layers import inner_size, rms_norm, rotary_tables, rotary_tables_2d, rotate, truncated_normal_
from solver.model.model import RecursiveModel
from solver.model.output import Output
from solver.model.recursion import recurse

SIDE = 4
SMALL = ModelConfig(hidden=16, heads=2, board_side=4, id_slots=2, h_cycles=2, l_cycles=2, canvas="task")


def make_batch(cells: list[list[int]], seed: int = 0) -> Batch:
    """Return random tokens that depend only on the row of the batch and the board cell, not on the column."""
    generator = torch.Generator().manual_seed(seed)
    boards = torch.randint(0, 12, (len(cells), SIDE * SIDE), generator=generator)
    cells_BC = torch.tensor(cells)
    tokens_BC = boards.gather(1, cells_BC.clamp(min=0)).masked_fill(cells_BC < 0, 0)
    return Batch(tokens_BC, tokens_BC, cells_BC, torch.arange(len(cells)))


def run(model: RecursiveModel, batch: Batch, ids_BI: Tensor) -> Output:
    return model(model.initial_latents(batch), batch, ids_BI)


def make_model(config: ModelConfig = SMALL) -> RecursiveModel:
    """Return a model with initial weights and a halting head that is not zero."""
    torch.manual_seed(1)
    model = RecursiveModel(config)
    torch.nn.init.normal_(model.halt_head.weight)
    return model


def test_padding_changes_nothing() -> None:
    model = make_model()
    ids_BI = torch.randn(2, 16)
    short = [0, 1, 4, 5]
    long = [0, 1, 2, 4, 5, 6]
    together = run(model, make_batch([[*short, -1, -1, -1], [*long, -1]]), ids_BI)
    for row, cells in enumerate((short, long)):
        batch = make_batch([short, long[:4]]) if row == 0 else make_batch([[*short, 8, 9], long])
        alone = run(model, batch, ids_BI)
        assert_close(together.logits_BCV[row, : len(cells)], alone.logits_BCV[row])
        assert_close(together.halt_B[row], alone.halt_B[row])


def test_padding_leaves_no_trace_in_the_gradients() -> None:
    model = make_model()

    def gradients(cells: list[int]) -> list[Tensor]:
        model.zero_grad()
        ids_BI = torch.ones(1, 16, requires_grad=True)
        output = run(model, make_batch([cells]), ids_BI)
        (output.logits_BCV[:, :4].square().sum() + output.halt_B.sum()).backward()
        assert ids_BI.grad is not None
        return [ids_BI.grad, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    assert_close(gradients([0, 1, 4, 5, -1, -1]), gradients([0, 1, 4, 5]), rtol=1e-3, atol=1e-4)


def test_task_canvas_equals_full_canvas_with_the_other_cells_masked() -> None:
    model = make_model()
    ids_BI = torch.randn(1, 16)
    used = [5, 6, 9, 10]
    full = run(model, make_batch([[cell if cell in used else -1 for cell in range(SIDE * SIDE)]]), ids_BI)
    task = run(model, make_batch([used]), ids_BI)
    assert_close(full.logits_BCV[:, used], task.logits_BCV)
    assert_close(full.halt_B, task.halt_B)


def test_cells_are_told_apart_by_their_place_on_the_board() -> None:
    model = make_model()
    ids_BI = torch.randn(1, 16)
    batch = make_batch([[0, 1, 4, 5]])
    shifted = Batch(batch.tokens_BS, batch.labels_BS, batch.cells_BS + 2, batch.puzzles_B)
    assert (run(model, batch, ids_BI).logits_BCV - run(model, shifted, ids_BI).logits_BCV).abs().max() > 1e-3


def test_mlp_mixer_refuses_part_of_the_board() -> None:
    model = RecursiveModel(ModelConfig(hidden=16, heads=2, board_side=4, id_slots=2, mixer="mlp"))
    for cells in ([0, 1, 4, 5], [*range(15), -1]):
        with pytest.raises(ValueError, match="all 16 cells"):
            run(model, make_batch([cells]), torch.zeros(1, 16))


@pytest.mark.parametrize("size", [8, 16, 24, 32])
def test_id_vector_fills_its_slots_and_zeros_the_rest(size: int) -> None:
    model = make_model(ModelConfig(hidden=16, heads=2, board_side=4, id_slots=2, id_size=size))
    nothing_BC = torch.zeros(1, 3, dtype=torch.int64)
    batch = Batch(nothing_BC, nothing_BC, nothing_BC, nothing_BC[:, 0])
    embedded = model._embed(batch, torch.ones(1, size), model.layout(batch))
    flat = embedded[:2].flatten()
    assert_close(flat, 4 * torch.tensor([1.0] * size + [0.0] * (32 - size)))


def test_only_the_last_cycle_carries_a_gradient() -> None:
    calls: list[bool] = []

    def network(z: Tensor) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return z * 0.5

    x = torch.ones(1, requires_grad=True)
    start = {"z_h": torch.tensor([1.0]), "z_l": torch.tensor([2.0])}
    end = recurse(TRM, {"f": network}, start, x, h_cycles=2, l_cycles=2)
    # First cycle: z_l 2 -> (2+2)/2 = 2 -> 2, z_h = (1+2)/2 = 1.5; second: z_l -> 2.25 -> 2.375, z_h 1.9375.
    assert end["z_l"].item() == 2.375
    assert end["z_h"].item() == 1.9375
    end["z_h"].backward()
    assert x.grad is not None
    assert x.grad.item() == 0.375
    assert calls == [False] * 3 + [True] * 3


def test_rotation_depends_on_the_distance_only() -> None:
    cos, sin = rotary_tables(10, 6, 10000.0)
    q = torch.randn(6)
    k = torch.randn(6)
    rotated = [[rotate(v, cos[p], sin[p]) for p in range(10)] for v in (q, k)]
    assert_close(rotated[0][2] @ rotated[1][5], rotated[0][6] @ rotated[1][9])
    assert_close(rotated[0][0], q)
    # Pairs are (i, i + 3): a unit vector along axis 0 rotates towards axis 3, by one radian per position.
    assert_close(rotate(torch.eye(6)[0], cos[1], sin[1])[[0, 3]], torch.tensor([0.5403023, 0.8414710]))


def test_rms_norm_by_hand() -> None:
    assert_close(rms_norm(torch.tensor([3.0, 4.0]), 0.0), torch.tensor([3.0, 4.0]) / 12.5**0.5)
    assert_close(rms_norm(torch.tensor([0.0, 0.0]), 1e-5), torch.zeros(2))


def test_inner_size_is_rounded_up_to_a_multiple_of_256() -> None:
    assert [inner_size(size, 4.0) for size in (64, 96, 97, 512)] == [256, 256, 512, 1536]


def test_truncated_normal_has_the_deviation_asked_for() -> None:
    torch.manual_seed(0)
    values = truncated_normal_(torch.empty(200_000), 0.5)
    assert values.std().item() == pytest.approx(0.5, rel=0.01)
    assert values.abs().max().item() == pytest.approx(2 * 0.5 / 0.87963, rel=1e-3)


def test_starting_latents_are_never_trained() -> None:
    model = make_model()
    assert {"h_start", "l_start"} <= dict(model.named_buffers()).keys()
    assert not {"h_start", "l_start"} & dict(model.named_parameters()).keys()
    assert not run(model, make_batch([[0, 1]]), torch.zeros(1, 16)).latents["z_h"].requires_grad


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden", 0),
        ("hidden", 15),
        ("heads", 3),
        ("layers", 0),
        ("h_cycles", -1),
        ("expansion", 0.0),
        ("id_slots", 0),
        ("id_size", 513),
        ("exploration", 1.5),
        ("exploration", -0.1),
        ("mixer", "conv"),
        ("canvas", "half"),
        ("rms_epsilon", 0.0),
    ],
)
def test_impossible_settings_are_refused_by_name(field: str, value: object) -> None:
    settings = {"hidden": 32, "heads": 4, "id_slots": 16} | {field: value}
    with pytest.raises(ValueError, match=r"model\.(" + field + "|hidden) = "):
        ModelConfig(**settings)  # pyright: ignore[reportArgumentType]


def test_mlp_mixer_needs_the_full_canvas() -> None:
    with pytest.raises(ValueError, match=r"model\.canvas"):
        ModelConfig(mixer="mlp", canvas="task")


def test_published_model_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = RecursiveModel(ModelConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 6_829_058


def test_row_and_column_positions_tell_how_far_cells_are_apart_in_each() -> None:
    side = 5
    slots = 2
    size = 8
    cos, sin = (table.double() for table in rotary_tables_2d(slots, side, size, 100.0))
    assert cos.shape == sin.shape == (slots + side * side, size)
    q_K, k_K = torch.randn(2, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def score(one: tuple[int, int], other: tuple[int, int]) -> Tensor:
        places = [slots + row * side + column for row, column in (one, other)]
        rotated = [rotate(x, cos[place], sin[place]) for x, place in zip((q_K, k_K), places, strict=True)]
        return rotated[0] @ rotated[1]

    assert_close(score((0, 1), (2, 0)), score((2, 4), (4, 3)), atol=1e-5, rtol=0)
    assert abs(score((0, 1), (2, 0)) - score((0, 0), (2, 0))) > 1e-3, "the column counts"
    assert abs(score((0, 1), (2, 0)) - score((1, 1), (2, 0))) > 1e-3, "the row counts"


def test_a_plain_network_takes_row_and_column_positions() -> None:
    model = make_model(ModelConfig(hidden=16, heads=2, board_side=4, id_slots=2, canvas="task", positions="rope2d"))
    batch = make_batch([[0, 1, 4, 5, 8]])
    transposed = replace(batch, cells_BS=torch.tensor([[0, 4, 1, 5, 2]]))  # rows and columns exchanged
    with torch.no_grad():
        logits, other = (run(model, examples, torch.ones(1, 16)).logits_BCV for examples in (batch, transposed))
    assert (logits - other).abs().max() > 1e-4
