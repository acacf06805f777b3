"""Every picture of the notebooks, the command line and the README.

The functions take arrays (anything ``np.asarray`` accepts: NumPy, CPU tensors without gradient,
nested lists) and know no model. Three rules hold for all of them.

- **Pictures** are ``uint8`` in 0..255 or float in [0, 1], 0 = background, drawn as the assignment
  draws them: ``Greys_r``, a white digit on black. ``[N, 1, S, S]`` is read as ``[N, S, S]``.
- **Cells** are indexed ``[digit, addend]``. Drawn, the digit runs along x and the addend down y,
  as in the assignment's display (Part III item 6). A cell whose sum exceeds 9 stays blank.
- **Every function** takes ``title`` (above) and ``caption`` (small, below: budget, seed, run),
  raises ``ValueError`` naming the argument when what it is given does not fit, and returns a
  ``Figure`` made through pyplot. A notebook therefore shows it at the end of the cell by itself:
  end the line with a semicolon, or keep the figure in a name, or Jupyter shows it twice. A script
  that draws many should ``plt.close`` each one. ``sum_slider`` alone shows what another draws.

Colours are Okabe and Ito's, which people with any common colour blindness can tell apart.
"""

from learn2add.figures.charts import cell_map, comparison_bars, curves, floors_bar, sum_distribution
from learn2add.figures.evidence import (
    blame_bars,
    digit_map,
    seeds_plot,
    sweep_curves,
    trade_off,
    weightings_table,
)
from learn2add.figures.hyper import importance_bars, slices
from learn2add.figures.latent import Film, Sheet, code_maps, film
from learn2add.figures.pictures import (
    addition_grid,
    image_grid,
    pairs_strip,
    reconstructions,
    save_png,
    strip,
)
from learn2add.figures.sheets import PALETTE, STYLE
from learn2add.figures.slider import sum_slider
from learn2add.figures.studies import growth_curves, strength_curves

__all__ = [
    "PALETTE",
    "STYLE",
    "Film",
    "Sheet",
    "addition_grid",
    "blame_bars",
    "cell_map",
    "code_maps",
    "comparison_bars",
    "curves",
    "digit_map",
    "film",
    "floors_bar",
    "growth_curves",
    "image_grid",
    "importance_bars",
    "pairs_strip",
    "reconstructions",
    "save_png",
    "seeds_plot",
    "slices",
    "strength_curves",
    "strip",
    "sum_distribution",
    "sum_slider",
    "sweep_curves",
    "trade_off",
    "weightings_table",
]
