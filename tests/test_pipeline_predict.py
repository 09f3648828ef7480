"""Prediction: how test inputs are gathered into batches."""

import numpy as np

from augment import Selection, SourcedTasks, build_puzzle_set, load_tasks
from pipeline.config import PredictSettings
from pipeline.predict import Predictor
from solver import IdTable, ModelConfig, RecursiveModel


def test_prediction_batches_hold_one_width_each_widest_first() -> None:
    tasks = load_tasks("arc-agi-1/training", Selection(max_side=12, limit=20))
    puzzle_set = build_puzzle_set([SourcedTasks("a", "scored", tasks)], 3, seed=0)
    model = ModelConfig(hidden=16, heads=2, h_cycles=1, l_cycles=1, canvas="task")
    table = IdTable(len(puzzle_set), model.id_length)
    predictor = Predictor(RecursiveModel(model), table, puzzle_set, PredictSettings(batch_size=16))
    batches, found = predictor.batches(), []
    for places in batches:
        assert 0 < len(places) <= 16
        widths = set(predictor.examples.widths(predictor.puzzles[places]).tolist())
        assert len(widths) == 1
        batch = predictor.examples.render(predictor.puzzles[places], predictor.pairs[places])
        assert {batch.cells_BS.shape[1]} == widths
        found += widths
    assert found == sorted(found, reverse=True)
    assert len(set(found)) >= 3
    assert sorted(np.concatenate(batches)) == list(range(len(predictor.puzzles)))
