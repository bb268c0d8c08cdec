#!/bin/sh
# Steps that mend beside GRPO steps of the same tokens, and the learner alone, on one GPU: under 8 minutes.
#   pip install -e . && sh benchmarks/gpu.sh                  # beside a torch that sees the GPU
#   DEVICE=cpu SIZES=nano STEPS=kintsugi-equal PAIRS=1 SKIP_REST=1 sh benchmarks/gpu.sh      # a dry run
# Rows go to RESULTS (runs/gpu/engine.jsonl); what is measured at this commit is not measured again, so that the same
# command goes on where it was stopped. SECONDS_LEFT bounds all of it. Figures on a GPU are of bfloat16.
set -u
PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda} SIZES=${SIZES:-nano 3m 135m} PAIRS=${PAIRS:-5}
LEFT=${SECONDS_LEFT:-450} RESULTS=${RESULTS:-runs/gpu/engine.jsonl} BEGAN=$(date +%s)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$(dirname "$RESULTS")"
STATUS=0
measure() { # the name of a bench, or the beginning of several, as `python -m benchmarks.engine --list` has them
  left=$((LEFT - $(date +%s) + BEGAN))
  if [ "$left" -le 0 ]; then
    echo "no time left for $1"
    return
  fi
  timeout "$left" $PYTHON -m benchmarks.engine --device "$DEVICE" --pairs "$PAIRS" --results "$RESULTS" --only "$1" ||
    STATUS=$?
}
for size in $SIZES; do
  for step in ${STEPS:-kintsugi-equal kintsugi-ragged iop-equal iop-ragged}; do
    measure "mending/$size-$step"
  done
done
if [ -z "${SKIP_REST:-}" ]; then
  measure learner/
fi
echo "$(grep -c . "$RESULTS") rows in $RESULTS after $(($(date +%s) - BEGAN)) s"
exit $STATUS
