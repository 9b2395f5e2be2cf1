"""``python -m benchmarks``: measures, and shows and writes what was found.

Every chosen library and every number of threads has a process of its own, since
libraries read the number of threads when they are imported.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from benchmarks.libraries import NAMES
from benchmarks.machine import description
from benchmarks.recording import environment


def record(
    library: str, threads: list[int], *, quick: bool = False, only: str = ""
) -> dict:
    """Measure one library.

    Args:
        library: Its name.
        threads: Numbers of threads.
        quick: Whether to take small sizes, and one turn.
        only: Part of the names of the tables to measure, or of their rows.

    Returns:
        What was measured, where and when.

    Raises:
        SystemExit: If a process fails.
    """
    runs, began = [], time.perf_counter()
    for count in threads:
        clock = "processor" if count == 1 else "wall"
        print(f"\n{library}, {count} thread(s), {clock} time", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "run.json"
            command = [sys.executable, "-m", "benchmarks.recording", library]
            command += [str(count), str(file), "--only", only]
            command += ["--quick"] if quick else []
            done = subprocess.run(command, check=False, env=environment(count))
            if done.returncode:
                raise SystemExit(done.returncode)
            runs.append(json.loads(file.read_text("utf-8")) | {"clock": clock})
    packages = ["kfac_core", *runs[0].pop("packages")]
    for run in runs[1:]:
        del run["packages"]
    return {
        "library": library,
        "quick": quick,
        "machine": description(packages),
        "seconds": round(time.perf_counter() - began),
        "runs": runs,
    }


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    installed = [name for name in NAMES if find_spec(name)]
    parser.add_argument(
        "--library", nargs="+", choices=NAMES, default=installed, help="default: all"
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--only", default="", help="part of the name of a table or row")
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds")
    parser.add_argument(
        "--json", type=Path, metavar="FOLDER", help="write LIBRARY.json into it"
    )
    options = parser.parse_args()
    for library in options.library:
        found = record(library, options.threads, quick=options.quick, only=options.only)
        print(f"\n{library}: {found['seconds']} seconds in all")
        if options.json:
            options.json.mkdir(parents=True, exist_ok=True)
            text = json.dumps(found, indent=1) + "\n"
            (options.json / f"{library}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
