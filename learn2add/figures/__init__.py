"""Every figure of the notebooks, the command line and the README.

The functions take arrays (anything ``np.asarray`` accepts: NumPy, CPU tensors without gradient,
nested lists) and know no model. Each takes ``title`` (above) and ``caption`` (small, below) and
returns a ``Figure`` made through pyplot, which a notebook shows at the end of the cell by itself:
end the line with a semicolon, or Jupyter shows it twice.

Images are ``uint8`` or float in [0, 1], 0 = background, drawn white on black as in the assignment;
``[N, 1, S, S]`` is read as ``[N, S, S]``. Cells are ``[digit, addend]``; drawn, the digit runs
along x and the addend down y (Part III item 6). The colours are Okabe and Ito's, which people with
any common colour blindness can tell apart. In a notebook a figure's words, its titles and labels,
stand beside its image for those who do not see it.
"""

# ruff: noqa: F401
from learn2add.figures.charts import (
    cell_map,
    curves,
    floors_bar,
    lines,
    sum_distribution,
    table,
)
from learn2add.figures.evidence import blame_bars, digit_map, seeds_plot, sweep_curves, trade_off
from learn2add.figures.images import (
    addition_grid,
    image_grid,
    pairs_strip,
    reconstructions,
    save_png,
    side_by_side,
    strip,
)
from learn2add.figures.slider import sum_slider
from learn2add.figures.style import PALETTE, STYLE
