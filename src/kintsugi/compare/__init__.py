"""Several algorithms on one task at an equal budget of generated tokens. Nothing here loads torch.

plan.py     what a comparison file says, and the runs it comes to
run.py      the runs: side by side, resumable, each a process of its own
results.py  result rows (JSON Lines) and what is computed from them
tables.py   Markdown of rows;  plots.py  pictures of rows
report.py   docs/results.md from committed rows
"""
