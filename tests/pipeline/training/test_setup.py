"""Precision and attention kernel: chosen by the hardware unless set."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from augment import storage
from pipeline.checkpoints import tensor_files
from pipeline.checkpoints.load_model import choose_precision, prepare_model
from pipeline.config.run_config import RunConfig, TrainSettings, override
from pipeline.recipes.small import smoke
from pipeline.training.setup import learner_config
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.learner_config import LearnerConfig
from tests.helpers.commands import SHORT, run
from tests.helpers.small_model import make_model

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), torch.float16), ((8, 9), torch.bfloat16)])
def test_half_precision_is_the_kind_that_the_gpu_has(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: torch.dtype
) -> None:
    """A T4 has no bf16, an L4 has."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert choose_precision("auto", CUDA) == expected
    assert choose_precision("fp32", CUDA) == torch.float32
    assert choose_precision("auto", CPU) == torch.float32


def test_every_setting_of_training_reaches_the_learner() -> None:
    changes = {
        "lr": 0.5,
        "muon_lr": 0.25,
        "optimizer": "muon",
        "curriculum": [[0.5, 1, 1]],
        "micro_batch": 3,
        "ids_only": 0.25,
    }
    changes |= {"id_optimizer": "adam", "schedule": "wsd", "decay": 0.5, "loss": "softmax", "label_smoothing": 0.1}
    changes |= {"halting_loss": 0.25, "corrupted": 0.5, "corruption": [0.1, 0.2]}
    config = learner_config(override(smoke(), {f"train.{name}": value for name, value in changes.items()}), True)
    given = (config.lr, config.muon_lr, config.optimizer, config.curriculum, config.micro_batch, config.scale_loss)
    assert (*given, config.ids_only) == (0.5, 0.25, "muon", ((0.5, 1, 1),), 3, True, 0.25)
    assert (config.id_optimizer, config.schedule, config.decay) == ("adam", "wsd", 0.5)
    assert (config.loss, config.label_smoothing, config.halting_loss) == ("softmax", 0.1, 0.25)
    assert (config.corrupted, config.corruption) == (0.5, (0.1, 0.2))


def test_the_defaults_of_training_are_those_of_the_learner() -> None:
    given, own = learner_config(RunConfig(recipe="none", source="none")), LearnerConfig()
    assert given == own


def test_a_model_knows_by_what_loss_it_is_trained() -> None:
    model = make_model()
    prepare_model(model, PuzzleEmbedding(2, 16), TrainSettings(loss="softmax"), CPU)
    assert model.loss == "softmax"


@pytest.mark.parametrize(("compile_it", "expected"), [(None, 0), (True, 2), (False, 0)])
def test_compiling_is_off_on_the_cpu_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, compile_it: bool | None, expected: int
) -> None:
    compiled: list[dict] = []
    monkeypatch.setattr("solver.model.layers.Block.compile_parts", lambda _, **options: compiled.append(options))
    monkeypatch.setattr("pipeline.checkpoints.load_model.find_compile_error", lambda *_: None)
    said = prepare_model(make_model(), PuzzleEmbedding(2, 16), TrainSettings(compile=compile_it), CPU)
    assert len(compiled) == expected
    assert said == "float32 on cpu, padded attention" + (", compiled" if expected else "")


def test_varlen_attention_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"attention=varlen: torch .* does not support it in torch\.float32 on cpu"):
        prepare_model(make_model(), PuzzleEmbedding(2, 16), TrainSettings(attention="varlen"), CPU)


def test_a_run_sends_its_metrics_to_tensorboard(tmp_path: Path) -> None:
    chosen = ("--set", 'train.trackers=["tensorboard"]', "--set", "train.log_every=2")
    assert run("solve", "--recipe", "smoke", *SHORT, *chosen, "--run-dir", tmp_path / "run") == 0
    events = EventAccumulator(str(tmp_path / "run" / "arc-trm")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [2, 4]


def test_a_tracker_that_is_not_there_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ("--set", 'train.trackers=["tensorbord"]')
    assert run("solve", "--recipe", "smoke", *chosen, "--run-dir", tmp_path / "run") == 2
    assert "tensorbord" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_checkpoint_that_a_run_starts_from_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of the size of `arc2`'s has 2.5 GB."""
    assert run("solve", "--recipe", "smoke", *SHORT, "--run-dir", tmp_path / "first") == 0
    start = tmp_path / "first" / "checkpoints" / "final"
    hashed: list[Path] = []
    loaded: list[Path] = []
    digest, load = storage._digest_file, tensor_files.load_file
    monkeypatch.setattr(storage, "_digest_file", lambda path: [hashed.append(path), digest(path)][1])
    monkeypatch.setattr(tensor_files, "load_file", lambda path: [loaded.append(path), load(path)][1])
    words = ("solve", "--recipe", "smoke", *SHORT, "--checkpoint", start, "--run-dir", tmp_path / "second")
    assert run(*words) == 0
    assert hashed.count(start / "model.safetensors") == 1
    assert loaded.count(start / "model.safetensors") == 1
