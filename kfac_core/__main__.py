"""``kfac-core`` and ``python -m kfac_core``: the commands."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from kfac_core.errors import KfacError
from kfac_core.registry import BUILTIN_BACKENDS, NOT_BY_DEFAULT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Arguments of the command line; by default those of the process.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "info":
            from kfac_core.info import report

            print(*report(), sep="\n")
        elif options.command == "verify":
            return _verify(options)
        else:
            _demo(options)
    except (KfacError, ImportError) as error:
        print(f"kfac-core {options.command}: {error}", file=sys.stderr)
        return 1
    return 0


def _verify(options: argparse.Namespace) -> int:
    from kfac_core.verify.command import run

    return run(
        libraries=options.library,
        dtypes=options.dtype,
        device=options.device,
        seed=options.seed,
        theorems=options.theorem,
        thorough=options.thorough,
        as_is=options.as_is,
        as_json=options.json,
    )


def _demo(options: argparse.Namespace) -> None:
    try:
        from kfac_core.demo.command import demo
    except ModuleNotFoundError as error:
        msg = f"{error}; install what the demo needs: pip install 'kfac_core[demo]'"
        raise ImportError(msg) from None
    demo(
        backend_name=options.backend,
        seed=options.seed,
        epochs=options.epochs,
        out=options.out,
        jit=options.jit,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kfac-core", description="K-FAC for every array library."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "info", help="print versions, backends, devices and BLAS, for a bug report"
    )
    _add_verify(commands.add_parser)
    demo = commands.add_parser(
        "demo",
        help="train a convolutional network on real handwritten digits",
        description="Train a convolutional network on real handwritten digits with"
        " K-FAC, SGD with momentum and Adam, each at the best of a grid of settings;"
        " print a table, draw a picture.",
    )
    demo.add_argument(
        "--backend",
        choices=[name for name in BUILTIN_BACKENDS if name not in NOT_BY_DEFAULT],
        default="numpy",
        help="array library (default: %(default)s)",
    )
    demo.add_argument(
        "--seed", type=int, default=0, help="of all randomness (default: %(default)s)"
    )
    demo.add_argument(
        "--epochs",
        type=_positive,
        default=20,
        help="passes over the images in each run (default: %(default)s)",
    )
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("demo-output"),
        help="folder for the picture and the numbers (default: %(default)s)",
    )
    demo.add_argument(
        "--jit",
        action=argparse.BooleanOptionalAction,
        help="compile the step with the library's compiler (default: for JAX)",
    )
    return parser


def _add_verify(add: Callable[..., argparse.ArgumentParser]) -> None:
    verify = add(
        "verify",
        help="try the theorems on what is installed",
        description="Try each theorem about K-FAC, and its negative twin, on array"
        " libraries; measure factorisations by LAPACK's test ratios; print a table. The"
        " exit status is 1 where one fails.",
    )
    verify.add_argument(
        "--library",
        nargs="+",
        metavar="NAME",
        help="array libraries, such as numpy torch jax (default: all installed)",
    )
    verify.add_argument(
        "--dtype",
        nargs="+",
        choices=["float64", "float32"],
        default=["float64", "float32"],
        help="dtypes (default: both)",
    )
    verify.add_argument(
        "--device", help="where to compute, such as cuda (default: the library's own)"
    )
    verify.add_argument(
        "--seed", type=int, default=0, help="of all randomness (default: %(default)s)"
    )
    verify.add_argument(
        "--theorem",
        nargs="+",
        metavar="NAME",
        help="theorems, such as T3a T8 (default: all)",
    )
    verify.add_argument(
        "--thorough",
        action="store_true",
        help="factorise matrices of orders up to 2,048, too: some minutes",
    )
    verify.add_argument(
        "--as-is",
        action="store_true",
        help="stay in one process, with the threads and XLA's flags of now (default: a"
        " process for each library and dtype, with one thread of BLAS and a quicker"
        " compiler of JAX)",
    )
    verify.add_argument("--json", action="store_true", help="print all numbers as JSON")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        msg = f"{value} is not positive"
        raise argparse.ArgumentTypeError(msg)
    return value


if __name__ == "__main__":
    sys.exit(main())
