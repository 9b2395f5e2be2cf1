"""``python -m benchmarks.earlier COMMIT``: verbs of small layers, now and earlier.

Both run the same script, in turns and in processes of their own, so that whatever else
the machine does slows both; the least of all turns counts. The checkout of the earlier
commit is made in a temporary folder.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parents[1]
SCRIPT = """
import json, sys, timeit
import numpy as np
import kfac_core as kc

library, repeats = sys.argv[1], 9
def array(*shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if library == "torch":
        import torch
        return torch.from_numpy(x)
    return x

blocks = getattr(kc, "blocks", kc)
found = {}
for inputs, outputs, rows in ((32, 16, 64), (8, 4, 32)):
    block = blocks.FullyConnectedKFACBasicFB(inputs, outputs)
    x, g, v = array(rows, inputs), array(rows, outputs), array(inputs, outputs)
    state = block.update_covs(block.init(x), x, g, ema_decay=0.95)
    state = block.update_inverses(state, 0.1)
    verbs = {
        "update_covs": lambda: block.update_covs(state, x, g, ema_decay=0.95),
        "update_inverses": lambda: block.update_inverses(state, 0.1),
        "multiply_inverse": lambda: block.multiply_inverse(state, v),
    }
    for verb, call in verbs.items():
        seconds = min(timeit.repeat(call, number=300, repeat=repeats)) / 300
        found[f"{verb}, {inputs}x{outputs}"] = seconds * 1e6
print(json.dumps(found))
"""


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Give a folder with the files of a commit."""
    git = ["git", "-C", str(HERE), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "earlier"
        subprocess.run([*git, "add", "-q", "--detach", path, commit], check=True)
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", path], check=True)


def measured(root: Path, library: str) -> dict[str, float]:
    """Return the microseconds of each verb, by the code of a checkout."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    path = os.pathsep.join([str(root), str(root / "backends")])
    command = [sys.executable, "-c", SCRIPT, library]
    environment = os.environ | one | {"PYTHONPATH": path}
    made = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=root, env=environment
    )
    found: dict[str, float] = json.loads(made.stdout)
    return found


def least(turns: list[dict[str, float]]) -> dict[str, float]:
    """Return the least of each verb."""
    return {verb: min(turn[verb] for turn in turns) for verb in turns[0]}


def main() -> None:
    """Print the microseconds of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("--library", nargs="+", default=["numpy", "torch"])
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    print("| library | verb, size | earlier, us | now, us | now over earlier |")
    print("|---|---|--:|--:|--:|")
    with checkout(asked.commit) as root:
        for library in asked.library:
            pairs = [
                (measured(root, library), measured(HERE, library))
                for _ in range(asked.turns)
            ]
            before, now = (least(list(own)) for own in zip(*pairs, strict=True))
            for verb, micro in before.items():
                ratio = now[verb] / micro
                print(f"| {library} | {verb} | {micro:.0f} | {now[verb]:.0f} |", end="")
                print(f" {ratio:.2f} |")


if __name__ == "__main__":
    main()
