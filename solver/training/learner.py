"""The learner: one training step after another on the batch slots, in one process or in many.

In: a batch of examples for the slots. Out: losses, and a model, ID table and slots that have changed. Gradients are
summed over chunks of slots and over processes, so that neither changes what is learnt but for rounding.

Shape letters: B batch slots of this process, C cells, V vocabulary, I length of an ID vector, T positions in use.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solver.data.batches import Batch
from solver.model.model import RecursiveModel
from solver.model.noise import NoiseSource, make_keys
from solver.model.output import Output
from solver.model.puzzle_embedding import PuzzleEmbedding, TableAdam
from solver.model.trace import Movement
from solver.training.corrupted_starts import corrupt_starts
from solver.training.deep_supervision import (
    Carry,
    carry_tensors,
    continue_target,
    halting,
    halts_by_chance,
    join_carry,
    minimum_steps,
    refill,
    start_carry,
)
from solver.training.ema import MovingAverage
from solver.training.learner_config import LearnerConfig
from solver.training.loss import LossConfig, losses
from solver.training.loss_scale import LossScale
from solver.training.micro_batches import Chunk, cut_slots, free_memory, join_chunks, ran_out_of_memory
from solver.training.optim import cycles_at, load_optimizer_tensors, make_optimizers, optimizer_tensors, scheduled_rate
from solver.training.process_group import ProcessGroup, own_part
from solver.training.step_result import NotFiniteError, StepResult


class Learner:
    """A model, its ID table, their optimizers, the moving average and the slots: everything a step changes.

    The slots of all processes, in their order, are the slots of the whole batch.
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
        self.given = config
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
        """slots of each process"""
        self.steps = 0
        self.movement = Movement()
        """of the latents in the last step that was watched"""
        self.planned: int | None = None
        """total steps, where they were planned after the start"""
        board = model.config.id_slots + model.config.cells
        self.most_positions = None if config.micro_batch is None else config.micro_batch * board

    def plan_steps(self, total: int) -> None:
        """From now on so many steps are planned in all, at most a tenth of them as warm-up: rates follow the plan."""
        self.planned = total
        self.config = replace(self.given, total_steps=total, warmup=min(self.given.warmup, total // 10))

    def free_slots(self, batch_size: int) -> list[int]:
        """How many slots of each process take a new example at the next step: all of them at the first."""
        if self.carry is None:
            return self.processes.sizes(batch_size)
        return [int(count) for count in self.processes.gather(self.carry.halted_B.sum()[None])]

    def step(self, offered: Batch, watched: bool = False) -> StepResult:
        """One supervision step on this process's slots, refilled from the offered batch, and one update of all.

        watched: keep how far the latents move in `movement`.

        Raises:
            NotFiniteError: where the loss or a gradient of any process is not finite; nothing has changed.
        """
        if self.carry is None:
            slots = torch.tensor([len(offered)], device=offered.puzzles_B.device)
            self.sizes = [int(size) for size in self.processes.gather(slots)]
            self.carry = start_carry(self.model, len(offered))
        carry = self._refill(offered)
        step = self.steps + 1
        chunk = self._run(carry, step, self.movement if watched else None)
        loss_is_finite, finite = self._share_gradients(chunk)
        if not loss_is_finite or (not finite and (self.scale is None or not self.scale.can_shrink)):
            raise NotFiniteError(step, carry)
        if finite:
            self._update(step, carry.batch.puzzles_B, chunk.id_gradients_BI)
        if self.scale is not None:
            self.scale.update(finite)
        self.steps = step
        self.carry = self._advance(step, carry, chunk.output)
        return StepResult(
            chunk.losses,
            chunk.output,
            self.carry.halted_B,
            self.carry.steps_B,
            carry.batch.puzzles_B,
            chunk.id_gradients_BI,
        )

    def _refill(self, offered: Batch) -> Carry:
        """The slots of the next step: new examples in those that have halted, some from a corrupted start."""
        assert self.carry is not None
        carry = refill(self.carry, offered, self.model)
        config = self.config
        if not config.corrupted:
            return carry
        chance = NoiseSource(self._keys(self.steps + 1, np.arange(len(carry.batch))))
        fresh_B = self.carry.halted_B
        return corrupt_starts(carry, fresh_B, self.model, chance, config.corrupted, config.corruption)

    def _run(self, carry: Carry, step: int, movement: Movement | None) -> Chunk:
        """Forward and backward of every slot, in chunks that fit into memory: halved whenever they do not."""
        lengths_B = self.model.config.id_slots + (carry.batch.cells_BS >= 0).sum(1).cpu().numpy()
        while True:
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            if movement is not None:
                movement.clear()
            chunks = cut_slots(lengths_B, self.most_positions)
            done = []
            try:
                for rows in chunks:
                    done.append(self._run_chunk(carry, rows, step, movement))
                return join_chunks(done, chunks, carry)
            except RuntimeError as error:
                sizes = [int(lengths_B[rows].sum()) for rows in chunks if len(rows) > 1]
                if not ran_out_of_memory(error) or not sizes:
                    raise
            self.most_positions = max(sizes) // 2
            done.clear()
            free_memory()

    def _run_chunk(self, carry: Carry, rows: np.ndarray, step: int, movement: Movement | None) -> Chunk:
        """Forward and backward of some of the slots."""
        if movement is not None:
            movement.begin()
        config = self.config
        some = carry.take(rows)
        own = self.model.config.h_cycles, self.model.config.l_cycles
        ids_BI = self.table.lookup(some.batch.puzzles_B)
        cycles = cycles_at(step, config.total_steps, config.curriculum, own)
        chance = self._chance(step, rows)
        output = self.model(
            some.latents, some.batch, ids_BI, cycles=cycles, watch=movement, chance=chance, told=config.evidence.told
        )
        target_B = self._continue_target(output, some, ids_BI, cycles, chance)
        weight = config.evidence.weight_at(step, config.total_steps)
        loss = losses(output, some.batch.labels_BS, target_B, config.evidence, weight, self.loss_config)
        self._backward(loss.total / sum(self.sizes))
        kept = ("logits_BCV", "halt_B", "continue_B", "value_B")
        logits = {name: getattr(output, name).detach() for name in kept}
        output = replace(output, **logits, kl_B2=None, judged_BCV=None)
        gradients_BI = ids_BI.grad if ids_BI.grad is not None else torch.zeros_like(ids_BI)
        return Chunk(replace(loss, total=loss.total.detach()), output, gradients_BI)

    def _chance(self, step: int, rows: np.ndarray) -> NoiseSource | None:
        """Of some of this process's slots, where the model has any use for it: each step's and each slot's own."""
        model = self.model.config
        if not model.recursion.noisy and not model.dropout:
            return None
        return NoiseSource(self._keys(step, rows), dropout=model.dropout)

    def _keys(self, step: int, rows: np.ndarray) -> Tensor:
        """A key for each of some of this process's slots, of (seed, step, slot)."""
        slots = own_part(self.sizes, self.processes.index).start + rows
        numbers = np.stack([np.full(len(slots), self.config.seed), np.full(len(slots), step), slots], axis=1)
        return make_keys(numbers, self.model.device)

    def _continue_target(
        self, output: Output, carry: Carry, ids_BI: Tensor, cycles: tuple[int, int], chance: NoiseSource | None
    ) -> Tensor | None:
        """With Q-learning, from another supervision step on the same data; it changes nothing."""
        if not self.model.config.learns_to_continue:
            return None
        later = None if chance is None else replace(chance.at(1), dropout=0.0)
        with torch.no_grad():
            after = self.model(output.latents, carry.batch, ids_BI, cycles=cycles, chance=later)
        return continue_target(after, carry.steps_B + 1, self.model.config.max_steps)

    def _backward(self, loss: Tensor) -> None:
        (loss if self.scale is None else loss * self.scale.value).backward()

    def _share_gradients(self, chunk: Chunk) -> tuple[bool, bool]:
        """Sum the gradients over all processes, in one piece; whether all losses are finite, and all gradients."""
        parameters = list(self.model.parameters())
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # What is summed tells every process the same: a sum with a part that is not finite is not finite.
        health = torch.stack([chunk.losses.total * 0, (chunk.id_gradients_BI * 0).sum()]).to(gradients[0])
        if self.processes.count > 1:
            flat = self.processes.sum_(torch.cat([*(gradient.flatten() for gradient in gradients), health]))
            *pieces, health = flat.split([*(gradient.numel() for gradient in gradients), 2])
            for parameter, piece in zip(parameters, pieces, strict=True):
                parameter.grad = piece.view_as(parameter)
            gradients = pieces
        if self.scale is not None:
            for gradient in (*gradients, chunk.id_gradients_BI):
                gradient.div_(self.scale.value)
        loss, ids = health.isfinite().tolist()
        return loss, ids and bool(torch.nn.utils.get_total_norm(gradients).isfinite())

    def _update(self, step: int, puzzles_B: Tensor, gradients_BI: Tensor) -> None:
        """The ID table first, then the weights, then their average; all rates follow the schedule."""
        self._update_ids(step, puzzles_B, gradients_BI)
        if step <= self.config.ids_only * self.config.total_steps:
            return
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._rate(step, group["base_lr"])
            optimizer.step()
        if self.average is not None:
            growing = self.average.growing_decay(step) if self.config.average_warmup else None
            self.average.update(growing)

    def _update_ids(self, step: int, puzzles_B: Tensor, gradients_BI: Tensor) -> None:
        """The same rows by the same gradients in every process: those of the whole batch, and no others are sent."""
        puzzles_B = self.processes.gather_rows(puzzles_B, self.sizes)
        gradients_BI = self.processes.gather_rows(gradients_BI, self.sizes)
        lr = self._rate(step, self.config.id_lr)
        config = self.config
        if self.id_adam is None:
            self.table.sign_sgd_(puzzles_B, gradients_BI, lr, config.id_weight_decay)
        else:
            self.id_adam.update_(self.table, puzzles_B, gradients_BI, lr, config.betas, config.id_weight_decay)

    def _rate(self, step: int, base: float) -> float:
        config = self.config
        return scheduled_rate(
            step, base, config.warmup, config.total_steps, config.min_ratio, config.schedule, config.decay
        )

    def _advance(self, step: int, carry: Carry, output: Output) -> Carry:
        """The slots after a step: new latents, one more step, halted or not."""
        config = self.model.config
        steps_B = carry.steps_B + 1
        if config.halting == "random":
            ends_B = halts_by_chance(self.config.seed, step, sum(self.sizes), config.exploration)
            own_B = ends_B[own_part(self.sizes, self.processes.index)].to(steps_B.device)
            return Carry(output.latents, carry.batch, steps_B, own_B | (steps_B >= config.max_steps))
        minimum_B = minimum_steps(self.config.seed, step, sum(self.sizes), config.max_steps, config.exploration)
        own_B = minimum_B[own_part(self.sizes, self.processes.index)].to(steps_B.device)
        margin_B = output.halt_B - output.continue_B if config.halting == "q_learning" else output.halt_B
        return Carry(output.latents, carry.batch, steps_B, halting(steps_B, margin_B, own_B, config.max_steps))

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What every process holds alike: weights, their average, ID table and optimizers' state; no copies.

        "id_optimizer" is there where ID rows have one with state.
        """
        state = {
            "model": self.model.state_dict(),
            "ids": self.table.tensors(),
            "optimizer": optimizer_tensors(self.optimizers, self.model.named_parameters()),
        }
        state |= {"id_optimizer": self.id_adam.tensors()} if self.id_adam else {}
        return state | ({"average": self.average.state} if self.average else {})

    def fingerprint(self) -> Tensor:
        """A sum over the bits of the weights and the ID table: alike in every process, or they have come apart."""
        tensors = [*self.model.parameters(), *self.table.tensors().values()]
        bits = {4: torch.int32, 8: torch.int64}
        return torch.stack([tensor.detach().view(bits[tensor.element_size()]).sum() for tensor in tensors]).sum()[None]

    def slots(self) -> dict[str, Tensor]:
        """This process's slots; empty before the first step."""
        return carry_tensors(self.carry, self.model) if self.carry else {}

    def numbers(self) -> dict[str, Any]:
        """The rest of the state, as plain JSON values."""
        scale = self.scale.numbers() if self.scale else None
        limits = {"micro_batch": self.config.micro_batch, "most_positions": self.most_positions}
        return {"steps": self.steps, "scale": scale, "planned": self.planned, **limits}

    @torch.no_grad()
    def load(
        self, tensors: dict[str, dict[str, Tensor]], slots: Sequence[dict[str, Tensor]], numbers: dict[str, Any]
    ) -> None:
        """Go on from a state saved by any number of processes; `slots` are theirs, in their order."""
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
        if numbers["micro_batch"] == self.config.micro_batch:  # else it is set anew
            self.most_positions = numbers["most_positions"]
        if self.scale is not None and numbers["scale"] is not None:
            self.scale.load(numbers["scale"])
        if all(slots):
            total = sum(len(part["puzzles"]) for part in slots)
            self.sizes = self.processes.sizes(total)
            self.carry = join_carry(slots, self.model, own_part(self.sizes, self.processes.index))
