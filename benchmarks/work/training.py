"""Ten whole steps of training: forward, backward, statistics, inverses, product."""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

from benchmarks.cases import Case, Rivals, normal, rng
from benchmarks.libraries import Library
from benchmarks.measuring import Call
from benchmarks.work.arithmetic import Layer, ratio

GROUP = "Training"
STEPS = 10
"""Steps that a call takes; there are new inverses in one of them."""

SCHEDULES = (
    ("empirical", 1, 1.0),
    ("empirical", 1, 0.25),
    ("gradients", 1, 1.0),
    ("empirical", 5, 1.0),
    ("gradients", 5, 1.0),
)
"""Mode, every how many steps there are statistics, and the share of cases in them."""

PARTS = (
    "statistics",
    "inverses and product",
    "statistics, inverses and product",
)
"""What of a refresh is measured: its parts, and the whole."""


def cases(library: Library, *, quick: bool) -> Iterator[Case]:
    """Return two models of PyTorch, by how often there are statistics.

    Args:
        library: The library.
        quick: Whether sizes are to be small.

    Yields:
        The cases; of other libraries there are none.
    """
    if library.name != "torch":
        return
    batch = 8 if quick else 128
    for name, make in {"MLP": _mlp, "digits CNN": _cnn}.items():
        layers = layers_of(name, batch)
        for mode, every, share in SCHEDULES:
            arithmetic = ratio(
                layers,
                batch,
                draws=mode == "gradients",
                cov_every=every,
                invert_every=STEPS,
                share=share,
            )
            text = f"{name}, {mode}, statistics every {every}"
            text += "" if share == 1 else f" of {share:.0%}"
            text += f" (arithmetic {arithmetic:.1f})"
            given = batch, every, mode, share
            yield Case(GROUP, text, partial(_rivals, make, *given, of_rows=True))
        for mode in ("empirical", "gradients"):
            for part in PARTS:
                text = f"{name}, {mode}, {part} of one batch"
                yield Case(GROUP, text, partial(_refresh, make, batch, mode, part))
    sizes = (2, 16, 2, 32) if quick else (6, 256, 8, 512)
    text = "transformer of {} layers of {}, {} × {} tokens".format(*sizes)
    for mode, every, share in SCHEDULES:
        if share < 1:
            continue
        depth, width, batch, tokens = sizes
        arithmetic = ratio(
            _layers_of_transformer(sizes),
            batch,
            draws=mode == "gradients",
            cov_every=every,
            invert_every=STEPS,
            without_weights=depth * 4 * batch * tokens**2 * width,
        )
        name = f"{text}, {mode}, statistics every {every}"
        name += f" (arithmetic {arithmetic:.1f})"
        make = partial(_transformer, sizes)
        given = batch, every, mode, share
        yield Case(GROUP, name, partial(_rivals, make, *given, of_rows=False))


def _mlp(batch: int) -> tuple[Any, Any]:
    from torch import nn

    width = 2 * batch
    layers = (nn.Linear(64, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
    return nn.Sequential(*layers, nn.Linear(width, 10)), normal(batch, 64)


def _cnn(batch: int) -> tuple[Any, Any]:
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    return model, normal(batch, 1, 8, 8)


def _encoder(layers: int, width: int) -> Any:
    """Return an encoder that tells ten classes by the mean over its tokens."""
    from torch import nn

    class Mean(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.mean(1)

    one = nn.TransformerEncoderLayer(
        width, 4, 4 * width, 0.0, batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(one, layers, enable_nested_tensor=False)
    return nn.Sequential(encoder, Mean(), nn.Linear(width, 10))


def _transformer(sizes: tuple[int, int, int, int], batch: int) -> tuple[Any, Any]:
    layers, width, _, tokens = sizes
    return _encoder(layers, width), normal(batch, tokens, width)


def _layers_of_transformer(sizes: tuple[int, int, int, int]) -> list[Layer]:
    depth, width, _, tokens = sizes
    inputs, wide = width + 1, 4 * width
    outputs = [(inputs, 3 * width), (inputs, width), (inputs, wide), (wide + 1, width)]
    return [*[Layer(*x, tokens) for x in outputs] * depth, Layer(inputs, 10)]


def layers_of(name: str, batch: int) -> list[Layer]:
    """Return the sizes of a model's layers."""
    if name == "MLP":
        width = 2 * batch
        return [Layer(65, width), Layer(width + 1, width), Layer(width + 1, 10)]
    images = [Layer(10, 16, 64), Layer(145, 32, 16)]
    return [*images, Layer(513, 64), Layer(65, 10)]


def _rivals(
    make: Callable[[int], tuple[Any, Any]],
    batch: int,
    every: int,
    mode: Any,
    share: float,
    *,
    of_rows: bool,
) -> Rivals:
    """Return steps of one model; those by hand know layers of one row a case alone."""
    import torch

    from benchmarks.peers.hooks import HandWritten
    from kfac_adapters.torch import KFAC

    labels = torch.as_tensor(rng().integers(0, 10, batch))

    def steps(optimizer_of: Callable[[Any], Any]) -> Call:
        model, inputs = make(batch)
        x, optimizer = torch.as_tensor(inputs), optimizer_of(model)

        @torch.enable_grad()
        def call() -> None:
            for _ in range(STEPS):
                model.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(x), labels)
                loss.backward()
                optimizer.step()

        return call

    ours = steps(
        partial(
            KFAC,
            lr=1e-3,
            damping=0.1,
            mode=mode,
            cov_every=every,
            statistics_share=share,
            invert_every=STEPS,
        )
    )
    adamw = steps(lambda model: torch.optim.AdamW(model.parameters(), 1e-3))
    others = {}
    if of_rows and mode == "empirical" and share == 1:
        others["hooks, a.T @ a, Cholesky"] = steps(
            lambda model: HandWritten(model, 1e-3, 0.1, every, STEPS)
        )
    return Rivals(ours, {"AdamW": adamw}, others)


def _refresh(
    make: Callable[[int], tuple[Any, Any]], batch: int, mode: Any, part: str
) -> Rivals:
    import torch

    from kfac_adapters.torch import Preconditioner
    from kfac_adapters.torch.direction import preconditioned

    labels = torch.as_tensor(rng().integers(0, 10, batch))
    model, inputs = make(batch)
    x = torch.as_tensor(inputs)
    options = {"cov_every": 1, "invert_every": 1}
    own = Preconditioner(model, "cross_entropy", damping=0.1, mode=mode, **options)
    plain, _ = make(batch)

    def backward(model: Any) -> None:
        with torch.enable_grad():
            model.zero_grad()
            torch.nn.functional.cross_entropy(model(x), labels).backward()

    def statistics() -> None:
        backward(model)
        own._tracker.next_step()

    def whole() -> None:
        backward(model)
        own.step()

    whole()
    gradients = {name: p.grad for name, p in model.named_parameters()}

    @torch.no_grad()
    def product() -> None:
        own._tracker.invert(own.damping)
        preconditioned(own._tracker, gradients)

    ours = dict(zip(PARTS, (statistics, product, whole), strict=True))
    floors, others = {}, {}
    if part != "inverses and product":
        floors["forward and backward pass"] = partial(backward, plain)
    if find_spec("curvlinops"):
        from benchmarks.peers import curvlinops_training

        theirs = curvlinops_training.refreshes(make(batch)[0], x, labels, mode, 0.1)
        others["curvlinops"] = theirs[part]
    return Rivals(ours[part], floors, others)
