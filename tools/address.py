"""Write the project's address wherever it stands: ``python tools/address.py``.

It is one line of pyproject.toml, ``Source`` under ``[project.urls]``. The README's and the
notebooks' badges and the cells that install the package in Colab are made from it; a fork changes
that line and runs this. A test says where it was forgotten.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

from learn2add.checkpoints import write_atomically

ROOT = Path(__file__).parents[1]
COLAB = "https://colab.research.google.com/github/{owner}/blob/main/notebooks/{name}"
INSTALL = """\
import sys
from pathlib import Path

if "google.colab" in sys.modules:
    # Should the address not answer: upload the project's wheel, or its unpacked archive, beside
    # this notebook, and that is installed instead.
    found = [*Path().glob("learn2add*.whl"), *(p.parent for p in Path().glob("*/pyproject.toml"))]
    source = found[0] if found else "learn2add @ git+{address}"
    %pip install -q "{{source}}"
"""


def address() -> str:
    """Return the address that pyproject.toml gives."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]


def with_address(text: str, found: str) -> str:
    """Return a README with its badges made from the address ``found``."""
    owner = found.removeprefix("https://github.com/")
    pattern = COLAB.format(owner=r"[\w.-]+/[\w.-]+", name=r"(\w+\.ipynb)")
    return re.sub(pattern, lambda match: COLAB.format(owner=owner, name=match[1]), text)


def notebook_with_address(text: str, found: str) -> str:
    """Return a notebook with badge and first cell made from the address ``found``."""
    notebook = json.loads(with_address(text, found))
    for cell in notebook["cells"]:
        code = "".join(cell["source"])
        if cell["cell_type"] == "code" and "google.colab" in code:
            head, _, rest = code.partition("%pip install")
            rest = rest.partition("\n")[2].lstrip("\n").replace("from pathlib import Path\n", "")
            before = re.findall(r"^import (?!sys$).*\n", head, re.M)  # other modules stand below
            code = "\n".join([INSTALL.format(address=found), *before, rest])
            cell["source"] = code.splitlines(keepends=True)
            break
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Rewrite what differs."""
    found = address()
    files = {ROOT / "README.md": with_address}
    files |= dict.fromkeys(sorted(ROOT.glob("notebooks/*.ipynb")), notebook_with_address)
    for file, made in files.items():
        before = file.read_text()
        if (after := made(before, found)) != before:
            write_atomically(file, after)
            print(file.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
