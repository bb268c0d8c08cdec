"""Engine benchmarks: steps beside TRL's, sampling beside `generate`, the learner beside the machine's matmul.

    make bench                                       everything that is not measured at this commit yet
    python -m benchmarks.engine --only step/nano     what starts with this
    python -m benchmarks.engine.report               tables and plots of benchmarks/performance.md from the rows

The driver (`__main__`, `benches`) measures nothing itself. It keeps two workers alive, `ours` in this environment
and `theirs` in TRL's own, which load the same weights and take turns, pair by pair.
"""
