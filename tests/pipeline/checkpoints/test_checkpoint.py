"""Checkpoints: saving and loading, matching of ID rows by key, and detection of damaged files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.checkpoints.checkpoint import load_checkpoint, read_checkpoint_header, save_checkpoint
from pipeline.checkpoints.id_table import match_rows
from pipeline.recipes.registry import recipe
from pipeline.runtime.exit_codes import CheckpointError
from tests.helpers.checkpoints import KEYS, harm, make_checkpoint


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = make_checkpoint()
    save_checkpoint(tmp_path / "final", saved)
    loaded = load_checkpoint(tmp_path / "final")
    assert (loaded.keys, loaded.step, loaded.config) == (saved.keys, saved.step, saved.config)
    assert (loaded.seen.to_json(), loaded.leaks) == (saved.seen.to_json(), saved.leaks)
    assert torch.equal(loaded.id_rows, saved.id_rows)
    assert saved.average is not None
    assert loaded.average is not None
    for ours, theirs in ((loaded.weights, saved.weights), (loaded.average, saved.average)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final"], "nothing is left beside it"


def test_best_weights_are_averages_and_untrained_starting_latents() -> None:
    checkpoint = make_checkpoint()
    best = checkpoint.best_weights()
    assert torch.equal(best["cell_head.weight"], checkpoint.weights["cell_head.weight"] + 1)
    assert torch.equal(best["h_start"], checkpoint.weights["h_start"])


def test_rows_are_matched_by_key_and_new_ones_start_at_the_mean() -> None:
    checkpoint = make_checkpoint()
    wanted = [KEYS[4], "11852cab", KEYS[0]]
    table, matched = match_rows(checkpoint, wanted)
    assert matched == 2
    assert torch.equal(table.weights_PI[0], checkpoint.id_rows[4])
    assert torch.equal(table.weights_PI[2], checkpoint.id_rows[0])
    torch.testing.assert_close(table.weights_PI[1], checkpoint.id_rows.mean(dim=0))


def test_without_rows_new_ones_start_at_zero() -> None:
    assert not match_rows(make_checkpoint([]), [KEYS[0]])[0].weights_PI.any()


def test_new_rows_start_where_a_checkpoint_says(tmp_path: Path) -> None:
    start = torch.randn(recipe("smoke").model.id_length)
    save_checkpoint(tmp_path / "final", replace(make_checkpoint(), start_row=start))
    table, matched = match_rows(load_checkpoint(tmp_path / "final"), [KEYS[1], "11852cab"])
    assert matched == 1
    assert torch.equal(table.weights_PI[1], start)


def test_keys_that_are_not_grouped_by_task_are_refused(tmp_path: Path) -> None:
    mixed = [KEYS[0], KEYS[3], KEYS[1]]
    with pytest.raises(ValueError, match="are not consecutive"):
        save_checkpoint(tmp_path / "final", make_checkpoint(mixed))
    assert not (tmp_path / "final").exists()


@pytest.mark.parametrize(
    "name", ["model.safetensors", "average.safetensors", "ids.safetensors", "keys.json", "seen.json", "checkpoint.json"]
)
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_damage_is_named(tmp_path: Path, name: str, damage: str) -> None:
    save_checkpoint(tmp_path / "final", make_checkpoint())
    file = tmp_path / "final" / name
    harm(file, damage)
    with pytest.raises(ValueError, match=name):
        load_checkpoint(tmp_path / "final")


def test_a_folder_that_is_no_checkpoint_says_what_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoints/final"):
        load_checkpoint(tmp_path)


def test_a_header_is_read_without_the_tensors(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", make_checkpoint())
    header = read_checkpoint_header(tmp_path / "checkpoint")
    loaded = load_checkpoint(tmp_path / "checkpoint")
    assert (header.step, header.config, header.recipe) == (loaded.step, loaded.config, loaded.config["recipe"])
    harm(tmp_path / "checkpoint" / "model.safetensors", "altered")
    assert read_checkpoint_header(tmp_path / "checkpoint") == header
    (tmp_path / "checkpoint" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        read_checkpoint_header(tmp_path / "checkpoint")
