"""`kintsugi report RUN`: one HTML file that shows what a run learned, and every mended failure.

`blocks.py` turns steps into data, `figures.py` draws the curves, `page.py` puts both into `page.html`; `foreign.py`
reads the rollouts that TRL and verl leave behind. The file is self-contained and needs no network.
"""

from kintsugi.look.report.page import write_report

__all__ = ["write_report"]
