#!/bin/bash
# Training on several nodes under SLURM. Submit it in the project's folder; the set and RUN lie where all nodes see them:
#
#     PUZZLES=/shared/sets/arc1 RUN=/shared/runs/arc1 RECIPE=arc1 sbatch docs/slurm_train.sh
#
# Two minutes before its time is up the job writes a checkpoint and queues itself again; it goes on from there.
# Words after the script's name go to the training: sbatch docs/slurm_train.sh --set train.checkpoint_every=500
#SBATCH --job-name=arc-trm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

. .venv/bin/activate
first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=100 # seconds for the last checkpoint; the launcher's own 30 may be too few
arguments=(
    --multi_gpu --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * SLURM_GPUS_ON_NODE))"
    --main_process_ip "$first_node" --main_process_port "$((20000 + SLURM_JOB_ID % 20000))"
    -m pipeline train --puzzles "${PUZZLES:?}" --run-dir "${RUN:?}" --recipe "${RECIPE:?}" "$@"
)

# srun passes the signal on to each node's launcher (exec: no shell stands between), and the launcher to its processes.
# A node that is done first must not end the others, which may still be writing.
go_on_later() {
    kill -TERM "$srun_pid"
    wait "$srun_pid" || scontrol requeue "$SLURM_JOB_ID"
    exit
}
trap go_on_later TERM
srun --kill-on-bad-exit=0 bash -c 'exec accelerate launch --machine_rank "$SLURM_NODEID" "$@"' launch "${arguments[@]}" &
srun_pid=$!
wait "$srun_pid"
