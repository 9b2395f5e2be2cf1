"""``python -m benchmarks.report``: writes the page and its pictures, of the records."""

import argparse
from pathlib import Path

from benchmarks.report.page import page
from benchmarks.report.picture import draw, name_of
from benchmarks.report.results import RECORDED, ROOT, read


def main() -> None:
    """Write what the command line says."""
    parser = argparse.ArgumentParser(prog="benchmarks.report", description=__doc__)
    parser.add_argument("--json", type=Path, default=RECORDED, metavar="FOLDER")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="FOLDER")
    options = parser.parse_args()
    recorded = read(options.json)
    (options.docs / "benchmarks.md").write_text(page(recorded), "utf-8")
    (options.docs / "images").mkdir(exist_ok=True)
    for found in recorded:
        draw(options.docs / "images" / name_of(found), found)


if __name__ == "__main__":
    main()
