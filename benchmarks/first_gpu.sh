#!/usr/bin/env bash
# The first half hour on a machine with a GPU: is what it computes right, how fast is it, and does the whole chain hold?
#
#   bash benchmarks/first_gpu.sh [1|2|3|4]      all four parts in order, about 28 minutes; a part takes ten at most
#
# 1 checks, kernels and a training step; 2 a profile, a run that is killed and resumed, the models of the family;
# 3 training and prediction within 12 minutes, started and waited for; 4 waits until it ends and collects its results.
# No network is needed: wheels in .whl/ are installed beside the machine's own packages (docs/training.md).
#
#   OUT      folder of the results   [first_gpu/results]
#   WORK     folder of the runs      [first_gpu/work]
#   PYTHON   interpreter             [python3]
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
part=${1:-all}
case $part in
all | 1 | 2 | 3 | 4) ;;
*)
    echo "error: first_gpu.sh $part: no such part; name 1, 2, 3 or 4, or none for all" >&2
    exit 2
    ;;
esac
out=${OUT:-first_gpu/results} work=${WORK:-first_gpu/work} python=${PYTHON:-python3}
mkdir -p "$out" "$work" || exit 2
export PYTHONUNBUFFERED=1 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
failed=()

# Install the wheels that were brought, if there are any.
install() {
    compgen -G ".whl/*.whl" >/dev/null || return 0
    local site
    site=$(realpath "$work")/site
    [ -d "$site" ] || "$python" -m pip install -q --no-index --no-deps --target "$site" .whl/*.whl || exit 2
    export PYTHONPATH="$site:$PWD"
}

# limited SECONDS NAME COMMAND...: run a command with its output on the screen and in OUT/NAME.log; failures are counted.
limited() {
    local seconds=$1 name=$2
    shift 2
    echo "== $name: $*"
    timeout -k 10 "$seconds" "$@" 2>&1 | tee -a "$out/$name.log" || failed+=("$name")
}

part_1() {
    limited 240 check_cuda "$python" -m benchmarks.check_cuda
    limited 60 kernels "$python" -m benchmarks.bench_kernels --out "$out/kernels.md"
    limited 250 train "$python" -m benchmarks.bench_train --rounds 5 --set train.micro_batch=192 --out "$out/train.md"
}

# kill_at_checkpoint SECONDS COMMAND...: start a training, and kill it once it has written a checkpoint.
kill_at_checkpoint() {
    local end=$((SECONDS + $1)) process
    shift
    echo "== killed after its first checkpoint: $*"
    "$@" >"$out/killed.log" 2>&1 &
    process=$!
    until compgen -G "$work/killed/checkpoints/step_*" >/dev/null || [ $SECONDS -ge $end ]; do
        kill -0 $process 2>/dev/null || break
        sleep "${POLL:-1}"
    done
    kill -KILL $process 2>/dev/null
    wait $process 2>/dev/null
    tail -n 5 "$out/killed.log"
}

part_2() {
    limited 150 profile "$python" -m benchmarks.bench_train --rounds 3 --profile --recipe arc1_fast_trm \
        --set train.micro_batch=192 --only task --out "$out/profile.md"
    limited 30 build "$python" -m pipeline build --score arc-agi-1/evaluation --augmentations 20 --out "$work/puzzles"
    local training=("$python" -m pipeline train --puzzles "$work/puzzles" --recipe arc1_fast_trm --run-dir "$work/killed"
        --set train.steps=100 --set train.checkpoint_every=10 --set train.batch_size=256)
    kill_at_checkpoint 100 "${training[@]}"
    limited 140 resumed "${training[@]}"
    grep -q "resumed at step" "$out/resumed.log" || failed+=("resume")
    for recipe in smoke smoke_hrm smoke_direct smoke_gram smoke_equilibrium smoke_urm smoke_symbols; do
        limited 25 "$recipe" "$python" -m pipeline solve --recipe "$recipe" --set train.compile=false --run-dir "$work/$recipe"
    done
}

# In a session of its own, so that it outlives the command that started it; its exit code is written when it ends.
start_budget() {
    [ -e "$out/budget.log" ] && return
    # shellcheck disable=SC2016
    setsid nohup bash -c '"${@:2}"; echo $? >"$1"' budget "$work/budget.code" \
        "$python" -m benchmarks.run_budget --minutes 12 --run-dir "$work/budget" --out "$out/budget.md" \
        >"$out/budget.log" 2>&1 </dev/null &
}

# wait_for_budget SECONDS: return whether it has ended within so long.
wait_for_budget() {
    local end=$((SECONDS + $1))
    until [ -e "$work/budget.code" ] || [ $SECONDS -ge $end ]; do sleep "${POLL:-5}"; done
    [ -e "$work/budget.code" ]
}

part_3() {
    start_budget
    wait_for_budget 570 || echo "the run goes on; part 4 waits for it"
    tail -n 5 "$out/budget.log"
}

part_4() {
    wait_for_budget 280 || echo "error: the run has not ended: see $out/budget.log" >&2
    [ "$(cat "$work/budget.code" 2>/dev/null)" = 0 ] || failed+=("budget")
    for file in log.txt metrics.jsonl score.json; do
        [ -e "$work/budget/$file" ] && cp "$work/budget/$file" "$out/budget_$file"
    done
    tail -n 40 "$out/budget.log"
}

install
for number in 1 2 3 4; do
    [ "$part" = all ] || [ "$part" = "$number" ] && "part_$number"
done
[ ${#failed[@]} = 0 ] && echo "everything held; results in $out" && exit
echo "FAILED: ${failed[*]}; see $out"
exit 1
