"""``kfac-core demo``: train, and show."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from kfac_core.arguments.sizes import as_flag, as_size
from kfac_core.demo.digits import load_digits
from kfac_core.demo.picture import draw, fishers_of
from kfac_core.demo.report import print_table, write_json
from kfac_core.demo.training import BATCH_SIZE, NETWORK, Run, optimizers, train
from kfac_core.errors import ArgumentError
from kfac_core.registry import load_backend


def demo(
    *, backend_name: str, seed: int, epochs: int, out: Path, jit: bool | None
) -> None:
    """Train the network with each optimiser and each setting; print, draw and write.

    Args:
        backend_name: Array library.
        seed: Seed of all randomness.
        epochs: Passes over the training images in each run.
        out: Folder for the picture and the numbers; made if it is not there.
        jit: Whether to compile the step; None: where that is quick, for JAX.

    Raises:
        ArgumentError: If an argument is out of range.
        BackendError: If there is no such library.
    """
    console = Console()
    backend = load_backend(backend_name)
    compiled = backend.name == "jax"
    if jit is not None:
        compiled = as_flag(jit, "jit", "demo")
    epochs = as_size(epochs, "epochs", "demo")
    given: object = out
    if not isinstance(given, str | Path):
        msg = f"demo: out is {given!r}, expected the path of a folder"
        raise ArgumentError(msg)
    out = Path(out)
    digits = load_digits(backend, seed)
    console.print(
        f"{digits.y_train.shape[0]} real handwritten digits, {NETWORK.num_params}"
        f" parameters, batches of {BATCH_SIZE}, {epochs} epochs a run, {backend.name}"
        " arrays"
    )
    best: list[Run] = []
    everything: list[Run] = []
    with Progress(
        TextColumn("{task.description:<50}"),
        BarColumn(bar_width=10),
        TextColumn("{task.completed:>2}/{task.total} {task.elapsed:.1f} s"),
        console=console,
    ) as progress:
        for optimizer in optimizers():
            runs = []
            for value in optimizer.grid:
                name = f"{optimizer.name}, {optimizer.setting} {value:g}"
                task = progress.add_task(name, total=epochs)
                runs.append(
                    train(
                        backend,
                        digits,
                        optimizer,
                        value,
                        epochs=epochs,
                        seed=seed,
                        jit=compiled,
                        on_epoch=lambda task=task: progress.advance(task),  # type: ignore[misc]
                    )
                )
                progress.stop_task(task)
                last = runs[-1].last
                progress.update(
                    task, description=f"{name}: {last.loss:.4f}, {last.accuracy:.1%}"
                )
            everything += runs
            best.append(min(runs, key=lambda run: run.last.loss))
    print_table(console, best)
    out.mkdir(parents=True, exist_ok=True)
    after_one_epoch = best[-1].epochs[min(1, epochs)].params
    draw(out / "digits.png", best, fishers_of(backend, digits, after_one_epoch))
    write_json(out / "digits.json", everything)
    console.print(f"Picture: {out / 'digits.png'}   Numbers: {out / 'digits.json'}")
