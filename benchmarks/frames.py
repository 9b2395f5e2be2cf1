"""``python -m benchmarks.frames``: how many functions of ours a verb calls.

Calls are counted beside the microseconds of NumPy: they do not depend on what else a
machine does.
"""

import sys
import time
from functools import partial
from types import FrameType

import kfac_core as kc
from benchmarks.cases import normal
from benchmarks.measuring import Call, Pace, least
from benchmarks.work.overhead import ROWS, SIZE


def own_frames(call: Call) -> int:
    """Return how many functions of this project a call enters."""
    count = 0

    def profile(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        module = frame.f_globals.get("__name__", "")
        count += event == "call" and module.startswith(("kfac_core.", "kfac_backends."))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before)
    return count


def main() -> None:
    """Print the calls and the microseconds of the verbs of two small layers."""
    x, v = normal(ROWS, SIZE), normal(SIZE, SIZE)
    image, kernel = normal(8, 8, 8, SIZE), normal(3, 3, SIZE, SIZE)
    geometry = kc.ConvolutionGeometry((3, 3, SIZE, SIZE), padding="SAME")
    layers = {
        "fully connected": (kc.blocks.FullyConnectedKFACBasicFB(SIZE, SIZE), x, v),
        "3×3 convolution": (kc.blocks.ConvKFCBasicFB(geometry), image, kernel),
    }
    print(f"{'layer':16} {'verb':17} own calls  microseconds")
    for layer, (block, data, vector) in layers.items():
        state = block.update_covs(block.init(like=data), data, data, ema_decay=0.95)
        state = block.update_inverses(state, damping=0.1)
        calls = {
            "update_covs": partial(block.update_covs, state, data, data, 0.95),
            "update_inverses": partial(block.update_inverses, state, 0.1),
            "multiply_inverse": partial(block.multiply_inverse, state, vector),
        }
        seconds = least(calls, time.process_time, Pace())
        for verb, call in calls.items():
            micro = seconds[verb] * 1e6
            print(f"{layer:16} {verb:17} {own_frames(call):9}  {micro:12.1f}")


if __name__ == "__main__":
    main()
