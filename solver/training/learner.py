"""The learner: optimizer steps on the batch slots, in one process or several.

`Learner.step` takes a batch of examples for the free slots, returns the losses, and updates the model, the ID table and
the slots. Gradients are summed over chunks of slots and over processes, so that the number of either changes the result
only by rounding.

Shape letters: B batch slots of this process, C cells, V vocabulary, I length of an ID vector, T positions in use.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solver.data.batch import Batch
from solver.model.model import RecursiveModel
from solver.model.noise import NoiseSource, make_keys
from solver.model.output import Output
from solver.model.puzzle_embedding import PuzzleEmbedding, TableAdam
from solver.model.trace import Movement
from solver.training.corrupted_starts import corrupt_starts
from solver.training.deep_supervision import (
    Carry,
    advance,
    carry_tensors,
    continue_target,
    join_carry,
    refill,
    start_carry,
)
from solver.training.device_memory import open_memory
from solver.training.ema import MovingAverage
from solver.training.gradients import GradientSum
from solver.training.learner_config import LearnerConfig
from solver.training.loss import LossConfig, losses
from solver.training.loss_scale import LossScale
from solver.training.micro_batches import Chunk, SlotWork, make_chunk, measure_limit, run_in_chunks
from solver.training.optim import cycles_at, load_optimizer_tensors, make_optimizers, optimizer_tensors, scheduled_rate
from solver.training.position_limit import PositionLimit, most_positions
from solver.training.process_group import ProcessGroup, own_part
from solver.training.step_result import NotFiniteError, StepResult


class Learner:
    """The complete state that an optimizer step changes: model, ID table, optimizers, moving average and slots.

    The slots of all processes, in the order of the processes, are the slots of the global batch.
    """

    def __init__(
        self,
        model: RecursiveModel,
        table: PuzzleEmbedding,
        config: LearnerConfig,
        processes: ProcessGroup | None = None,
    ):
        self.model = model
        self.table = table
        self.config = config
        self.processes = processes or ProcessGroup()
        self._base_config = config
        model.loss = config.loss
        halting_loss = 0.0 if model.config.halting == "random" else config.halting_loss
        self.loss_config = LossConfig(config.loss, config.label_smoothing, halting_loss)
        self.id_adam = TableAdam(table) if config.id_optimizer == "adam" else None
        self.optimizers = make_optimizers(
            model.named_parameters(), config.optimizer, config.lr, config.muon_lr, config.betas, config.weight_decay
        )
        self.average = None if config.ema_decay is None else MovingAverage(model, config.ema_decay)
        self.scale = LossScale() if config.scale_loss else None
        self.carry: Carry | None = None
        self.sizes: list[int] = []
        """number of slots of each process"""
        self.steps = 0
        self.movement = Movement()
        """relative changes of the latents in the last watched step"""
        self.planned: int | None = None
        """total number of steps set by `plan_steps`, if it was called"""
        self._board = model.config.id_slots + model.config.cells
        most = most_positions(model.config, model.device)
        self.limit = PositionLimit(config.micro_batch and config.micro_batch * self._board, most)
        self.memory = open_memory(model.device)

    def plan_steps(self, total: int) -> None:
        """Set the total number of steps that the schedules use from now on; at most a tenth of it is warm-up."""
        self.planned = total
        self.config = replace(self._base_config, total_steps=total, warmup=min(self._base_config.warmup, total // 10))

    def free_slots(self, batch_size: int) -> list[int]:
        """Return how many slots of each process take a new example at the next step; before the first, all do."""
        if self.carry is None:
            return self.processes.sizes(batch_size)
        return [int(count) for count in self.processes.gather(self.carry.halted_B.sum()[None])]

    def step(
        self, offered: Batch, watched: bool = False, votes: Callable[[], Sequence[bool]] | None = None
    ) -> StepResult:
        """Run one supervision step on this process's slots, refilled from the offered batch, and one optimizer step.

        Args:
            offered: examples for the slots: one for each slot, or one for each halted slot (`refill`).
            watched: record the relative changes of the latents in `movement`.
            votes: called after the backward pass; these flags are sent with the gradients, and those that any process
                set are in the result. Either all processes vote or none.

        Raises:
            NotFiniteError: if the loss or a gradient of any process is not finite. Weights, table and slots are then
                unchanged. With loss scaling, overflowing gradients skip the update instead while the scale can shrink.
        """
        if self.carry is None:
            slots = torch.tensor([len(offered)], device=offered.puzzles_B.device)
            self.sizes = [int(size) for size in self.processes.gather(slots)]
            self.carry = start_carry(self.model, len(offered))
        carry = self._refill(offered)
        step = self.steps + 1
        chunk = self._run(carry, step, self.movement if watched else None)
        gradients = GradientSum(self.model, chunk, self.processes, self.scale, votes() if votes else ())
        # What needs no sum is done while it is under way.
        own = own_part(self.sizes, self.processes.index)
        after = advance(carry, chunk.output, self.model.config, (self.config.seed, step), sum(self.sizes), own)
        ids = [self.processes.gather_rows(rows, self.sizes) for rows in (carry.batch.puzzles_B, chunk.id_gradients_BI)]
        outcome = gradients.wait()
        # A gradient that overflows under the loss scale is expected now and then; a loss that is not finite never is.
        if not outcome.loss_is_finite or (not outcome.finite and (self.scale is None or not self.scale.can_shrink)):
            raise NotFiniteError(step, carry)
        if outcome.finite:
            self._update(step, *ids)
        if self.scale is not None:
            self.scale.update(outcome.finite)
        self.steps = step
        self.limit.count_step()
        self.carry = after
        slots = after.halted_B, after.steps_B, carry.batch.puzzles_B
        return StepResult(chunk.losses, chunk.output, *slots, chunk.id_gradients_BI, outcome.votes)

    def _refill(self, offered: Batch) -> Carry:
        """Return the slots of the next step: halted ones get new examples, some of them with a corrupted start."""
        assert self.carry is not None
        carry = refill(self.carry, offered, self.model)
        config = self.config
        if not config.corrupted:
            return carry
        noise_source = NoiseSource(self._keys(self.steps + 1, np.arange(len(carry.batch))))
        fresh_B = self.carry.halted_B
        return corrupt_starts(carry, fresh_B, self.model, noise_source, config.corrupted, config.corruption)

    def _run(self, carry: Carry, step: int, movement: Movement | None) -> Chunk:
        """Run forward and backward on all slots, in chunks that fit in memory."""

        def clear() -> None:
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            if movement is not None:
                movement.clear()

        def run(rows: np.ndarray) -> Chunk:
            return self._run_chunk(carry, rows, step, movement)

        work = SlotWork(carry.rows_B, run, clear)
        measure_limit(self.limit, work, self._board, self.memory, self._cycles(step))
        return run_in_chunks(carry, work, self.limit)

    def _run_chunk(self, carry: Carry, rows: np.ndarray, step: int, movement: Movement | None) -> Chunk:
        """Run forward and backward on the given slots."""
        if movement is not None:
            movement.begin()
        config = self.config
        part = carry.take(rows)
        ids_BI = self.table.lookup(part.batch.puzzles_B)
        cycles = self._cycles(step)
        noise_source = self._noise_source(step, rows)
        posterior = config.evidence.posterior
        output = self.model(
            part.latents, part.batch, ids_BI, cycles=cycles, watch=movement, chance=noise_source, posterior=posterior
        )
        target_B = self._continue_target(output, part, ids_BI, cycles, noise_source)
        weight = config.evidence.weight_at(step, config.total_steps)
        loss = losses(output, part.batch.labels_BS, target_B, config.evidence, weight, self.loss_config)
        self._backward(loss.total / sum(self.sizes))
        return make_chunk(loss, output, ids_BI)

    def _cycles(self, step: int) -> tuple[int, int]:
        """Return the cycles of a step, which decide how much memory a position takes."""
        default_cycles = self.model.config.h_cycles, self.model.config.l_cycles
        return cycles_at(step, self.config.total_steps, self.config.curriculum, default_cycles)

    def _noise_source(self, step: int, rows: np.ndarray) -> NoiseSource | None:
        """Return the noise source of the given slots at a step; None if the model has neither noise nor dropout."""
        model = self.model.config
        if not model.recursion.noisy and not model.dropout:
            return None
        return NoiseSource(self._keys(step, rows), dropout=model.dropout)

    def _keys(self, step: int, rows: np.ndarray) -> Tensor:
        """Return a key for each of the given slots of this process, a hash of (seed, step, slot)."""
        # Slots are numbered in the global batch, so that the noise does not depend on the number of processes.
        slots = own_part(self.sizes, self.processes.index).start + rows
        numbers = np.stack([np.full(len(slots), self.config.seed), np.full(len(slots), step), slots], axis=1)
        return make_keys(numbers, self.model.device)

    def _continue_target(
        self, output: Output, carry: Carry, ids_BI: Tensor, cycles: tuple[int, int], noise_source: NoiseSource | None
    ) -> Tensor | None:
        """Return the target of Q-learning from the next supervision step on the same data; None without Q-learning."""
        if not self.model.config.learns_to_continue:
            return None
        later = None if noise_source is None else replace(noise_source.at(1), dropout=0.0)
        with torch.no_grad():
            after = self.model(output.latents, carry.batch, ids_BI, cycles=cycles, chance=later)
        return continue_target(after, carry.steps_B + 1, self.model.config.max_steps)

    def _backward(self, loss: Tensor) -> None:
        (loss if self.scale is None else loss * self.scale.value).backward()

    def _update(self, step: int, puzzles_B: Tensor, gradients_BI: Tensor) -> None:
        """Update the ID rows of the global batch, then the weights, then their average; rates follow the schedule."""
        self._update_ids(step, puzzles_B, gradients_BI)
        if step <= self.config.ids_only * self.config.total_steps:
            return
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._rate(step, group["base_lr"])
            optimizer.step()
        if self.average is not None:
            decay = self.average.growing_decay(step) if self.config.average_warmup else None
            self.average.update(decay)

    def _update_ids(self, step: int, puzzles_B: Tensor, gradients_BI: Tensor) -> None:
        lr = self._rate(step, self.config.id_lr)
        decay = self.config.id_weight_decay
        if self.id_adam is None:
            self.table.sign_sgd_(puzzles_B, gradients_BI, lr, decay)
        else:
            self.id_adam.update_(self.table, puzzles_B, gradients_BI, lr, self.config.betas, decay)

    def _rate(self, step: int, base: float) -> float:
        config = self.config
        return scheduled_rate(
            step, base, config.warmup, config.total_steps, config.min_ratio, config.schedule, config.decay
        )

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the state that is equal in all processes: weights, average, ID table and optimizer state; not copied.

        "average" and "id_optimizer" are there only if an average is kept and if the ID rows use Adam.
        """
        state = {
            "model": self.model.state_dict(),
            "ids": self.table.tensors(),
            "optimizer": optimizer_tensors(self.optimizers, self.model.named_parameters()),
        }
        state |= {"id_optimizer": self.id_adam.tensors()} if self.id_adam else {}
        return state | ({"average": self.average.state} if self.average else {})

    def fingerprint(self) -> Tensor:
        """Return a sum over the bits of the weights and the ID table, which detects processes that have diverged."""
        tensors = [*self.model.parameters(), *self.table.tensors().values()]
        bits = {4: torch.int32, 8: torch.int64}
        return torch.stack([tensor.detach().view(bits[tensor.element_size()]).sum() for tensor in tensors]).sum()[None]

    def slots(self) -> dict[str, Tensor]:
        """Return this process's slots as named tensors; empty before the first step."""
        return carry_tensors(self.carry) if self.carry else {}

    def numbers(self) -> dict[str, Any]:
        """Return the rest of the state, as plain JSON values."""
        scale = self.scale.numbers() if self.scale else None
        limits = {"micro_batch": self.config.micro_batch, **self.limit.numbers()}
        return {"steps": self.steps, "scale": scale, "planned": self.planned, **limits}

    @torch.no_grad()
    def load(
        self, tensors: dict[str, dict[str, Tensor]], slots: Sequence[dict[str, Tensor]], numbers: dict[str, Any]
    ) -> None:
        """Resume from a state that any number of processes saved; `slots` are those of each, in their order."""
        self.model.load_state_dict(tensors["model"])
        for name, values in self.table.tensors().items():
            values.copy_(tensors["ids"][name])
        load_optimizer_tensors(self.optimizers, self.model.named_parameters(), tensors["optimizer"])
        if self.id_adam is not None:
            self.id_adam.load(tensors["id_optimizer"])
        if self.average is not None:
            for name, average in self.average.state.items():
                average.copy_(tensors["average"][name])
        self.steps = numbers["steps"]
        if numbers.get("planned") is not None:
            self.plan_steps(numbers["planned"])
        # The saved limit may have been lowered for lack of memory, but a changed setting takes precedence.
        if numbers["micro_batch"] == self.config.micro_batch:
            self.limit.load(numbers)
        if self.scale is not None and numbers["scale"] is not None:
            self.scale.load(numbers["scale"])
        if all(slots):
            total = sum(len(part["puzzles"]) for part in slots)
            self.sizes = self.processes.sizes(total)
            self.carry = join_carry(slots, self.model, own_part(self.sizes, self.processes.index))
