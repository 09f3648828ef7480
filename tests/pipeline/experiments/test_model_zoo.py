"""The members of the model family and their drawings."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipeline.experiments.model_drawings import describe_step, draw_recursion
from pipeline.experiments.model_zoo import MEMBERS, count_parameters
from pipeline.experiments.symbol_drawing import HELD, PALETTE, SYMBOLS, draw_symbol_block
from tests.helpers.commands import run
from tests.helpers.paths import ROOT

DRAWINGS = ROOT / "docs" / "models"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", MEMBERS)
def test_a_drawing_shows_every_update(name: str) -> None:
    config = MEMBERS[name].config
    drawn = ElementTree.fromstring(draw_recursion(config, MEMBERS[name].title))
    runs = list(config.recursion.schedule(config.h_cycles, config.l_cycles))
    boxes = drawn.findall(f"{SVG}rect")
    assert len(boxes) == sum(run.times for run in runs)
    assert sum("class" in box.attrib for box in boxes) == sum(run.times for run in runs if run.gradient)
    reads = sum(run.times * len(set(run.update.reads) - {run.update.latent}) for run in runs)
    noisy = sum(run.times for run in runs if run.update.noisy)
    assert len(drawn.findall(f"{SVG}circle")) == reads + noisy
    assert len(drawn.findall(f"{SVG}circle[@class='noise']")) == noisy


def test_the_documents_hold_the_drawings_of_today(tmp_path: Path) -> None:
    assert run("models", "--out", tmp_path) == 0
    drawn, filed = ({file.name: file.read_text() for file in folder.glob("*.svg")} for folder in (tmp_path, DRAWINGS))
    assert drawn == filed, "update them: python -m pipeline models --out docs/models"
    page = (DRAWINGS.parent / "models.md").read_text()
    assert all(f"models/{name}" in page for name in filed)


def test_only_a_halting_that_is_learnt_is_drawn() -> None:
    reads = {name: draw_recursion(member.config, member.title) for name, member in MEMBERS.items()}
    assert {name for name, drawing in reads.items() if ">answer, halt<" not in drawing} == {"serrm"}


def test_a_block_is_drawn_with_a_vector_for_each_symbol_of_the_palette() -> None:
    drawn = ElementTree.fromstring(draw_symbol_block(MEMBERS["serrm"].config))
    panels = drawn.findall(f"{SVG}g")
    assert len(panels) == 3
    for panel in panels:
        squares = panel.findall(f"{SVG}rect")
        assert len(squares) == len(PALETTE) * len(HELD)
        assert len({square.get("x") for square in squares}) == len(HELD)
        assert len([square for square in squares if square.get("class")]) == len(HELD), "a cell holds one symbol"
    assert [len(panel.findall(f"{SVG}path")) for panel in panels] == [len(PALETTE), len(HELD), 0]
    words = [text.text for text in drawn.iter(f"{SVG}text")]
    assert set(SYMBOLS) <= set(words)
    assert "each symbol by itself, 4 heads" in words
    assert "each cell by itself, 2 heads" in words


def test_sizes_are_said_as_they_are() -> None:
    page = (DRAWINGS.parent / "models.md").read_text()
    for name in ("trm", "hrm", "separate", "direct", "urm", "serrm"):
        assert f"{count_parameters(MEMBERS[name].config):,}" in page


def test_a_drawing_says_what_it_shows() -> None:
    assert describe_step(MEMBERS["trm"].config) == "21 updates, 7 with gradient (filled); up to 16 supervision steps"
    assert "one more forward pass" in describe_step(MEMBERS["hrm"].config)
    assert "21 updates, 7 with gradient (filled), 3 with noise (e)" in describe_step(MEMBERS["gram"].config)
    assert "one update, repeated until it converges, at most 24 times" in describe_step(MEMBERS["equilibrium"].config)
    assert describe_step(MEMBERS["serrm"].config).startswith("12 updates, 4 with gradient")
    assert describe_step(MEMBERS["direct"].config) == "1 update, 1 with gradient (filled); one supervision step"
