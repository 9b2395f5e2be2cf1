"""The page of the documentation."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.report.five import table
from benchmarks.report.picture import name_of
from benchmarks.report.results import TITLES, Row, rows
from benchmarks.report.terminal import duration, ratio

HEAD = """\
# Benchmarks

Is it fast? Five numbers for each array library, losses among them: our time against
that of the fastest other way that was measured, on {threads}.

{five}
## In pictures

For each piece of work the closest floor and the fastest of the other ways, on the first
number of threads; other K-FAC libraries one by one. Bars to the right: we are faster;
to the left: slower. The first, the middle and the last line of a long table are drawn;
all are below.

{pictures}
## How it is measured

What is compared, for each array library in one process: the time of `kfac_core`; that
of the **floor**, the library's own routines for the arithmetic alone (one product,
SYRK, a Cholesky factorisation, one copy); and that of what one would **otherwise** run:
the library's plain functions, or the code of another K-FAC library. All ratios are
*their time divided by ours*: above 1 we are faster, below 1 slower. A floor can be
above 1 where it does work that can be left out.

{measured}
The ways take turns, and the least of several turns counts. NumPy and PyTorch run
eagerly, JAX is compiled. Where two ways should give the same matrix, that is checked
before they are timed.

One command measures everything, in an environment of its own for each library, and
writes what this page is made from:

```sh
nox -s bench -- --json docs/benchmarks && python -m benchmarks.report
```

`python -m benchmarks --help` measures in the environment at hand: one library, some
tables (`--only convolutions`), or everything in small (`--quick`).

`python -m benchmarks.frames` counts how many functions of ours the verbs of two
small layers call, beside their microseconds: calls do not depend on other work.

`python -m benchmarks.gpu` checks and measures PyTorch, JAX and CuPy on a GPU, in less
than six minutes.
"""

UNBROKEN = "\N{NO-BREAK SPACE}"
NOTES = {
    "Second moments of rows": (
        "The factor `A` of a layer's inputs. SYRK, of SciPy's BLAS for all libraries,"
        " computes one triangle of the Gram matrix; `update_cov` gives the whole"
        " matrix, averages, and checks that all is finite. Otherwise, ones are appended"
        " where there is a bias."
    ),
    "Inverses": (
        "From statistics to the damped inverse that `multiply_inverse` uses, of one"
        " factor, or of all factors of an estimator, which others go through one by"
        " one. The floor is LAPACK's potrf and potri, through SciPy for all libraries,"
        " and gives one triangle; mirrored, it is whole. PyTorch has a potri of its own"
        " (`cholesky_inverse`), JAX none."
    ),
    "Convolutions": (
        "The second moment of patches; sizes are batch, height, width, channels, the"
        " padding keeps height and width. Images are in the library's usual order of"
        " axes, ours channels last. The floors are of patches that are there already."
        " Sliding windows are `sliding_window_view`, lax patches"
        " `conv_general_dilated_patches`, each with a product of all rows. Memory is"
        " the peak, result included, beside the inputs and as a multiple of them;"
        " `memory: result` is what the result alone takes. It is what Python's"
        " allocator saw of NumPy; for PyTorch the peak that its profiler saw, and added"
        " to it that of the memory which NumPy gave, which is the most that it can be;"
        " what the compiler of JAX plans."
    ),
    "Both factors of a layer, with bias": (
        "`update_covs` from a layer's inputs and gradients, in the library's usual"
        " order of axes, against the code of other libraries that computes the"
        " factors: what the hooks of curvlinops and nngeometry call, and the block of"
        " kfac-jax, whose kernel for the CPU is slow and gets one image alone. Forward"
        " and backward passes are left out for all. As kfac-pytorch is written here, in"
        " its way: patches, ones appended, `a.T @ (a / rows)`, an average. The factors"
        " are equal"
        " up to the scale that each library gives them."
    ),
    "Embeddings": (
        "The diagonal input factor from ids, and the product of the inverse with the"
        " rows of a batch's ids (`EmbeddingKFACFB.restricted`)."
    ),
    "Few rows, wide layer": (
        "Statistics, inverse and one product of a layer that has fewer rows in a batch"
        " than inputs."
    ),
    "Networks": (
        "Statistics of both factors, both inverses and the preconditioned gradient,"
        " layer by layer and in sum: of ResNet-50 half as wide, for 4 images of 112"
        " pixels; of the smallest GPT-2 half as wide, for 512 tokens, without the"
        " output layer. Peers invert by `inv`, or by a Cholesky factorisation and the"
        " library's way from there. A layer that occurs several times is measured once"
        " and counted so often; the numbers of pixels are of the inputs."
    ),
    "Training": (
        "Ten steps on a model as it is, batches of 128: forward and backward pass,"
        " statistics, new inverses once, the preconditioned gradient, momentum; with"
        " PyTorch `kfac_adapters.torch.KFAC`, with JAX `kfac_adapters.jax.kfac` in a"
        " compiled step. The floor is the same with `torch.optim.AdamW`, or with Adam"
        " in JAX. Otherwise, one writes K-FAC by hand, of the gradients of the data,"
        " with hooks, or takes the optimiser of kfac-jax, where its tracer runs. Rows"
        " of one batch are all of that once, or a part of it, against curvlinops: the"
        " statistics with the passes that give them, of which the floor is one forward"
        " and one backward pass; both inverses of each layer and the product."
        " curvlinops makes passes of its own for its statistics, beside those of the"
        " training that are in the whole, and keeps no average. Targets that are drawn"
        " take one more backward pass. In"
        " brackets is the arithmetic of a step as a multiple of Adam's"
        " (`benchmarks.work.arithmetic`): the least that the ratio could be if all"
        " arithmetic were as fast as a product of large matrices. Batches of 128 are"
        " small for layers of 256 units, of which the product with both inverses alone"
        " costs as much as a pass. Memory is what JAX's compiler plans for a step,"
        " arguments and results included."
    ),
    "Compilation": (
        "What passes until JAX has a program: a function is traced, lowered and"
        " compiled, each time anew. Verbs of one layer with bias and 1,024 rows, beside"
        " the arithmetic without any check; a step as in the table on training, beside"
        " Adam's. On a CPU, XLA takes 10 to 30 ms for each loop that differs from all"
        " others, in what it does or in its shapes, and next to nothing for products,"
        " for sums of matrices and for calls of LAPACK."
    ),
    "Overhead": (
        "A layer so small that arithmetic is nothing: what checks, the average with its"
        " weight, and the dispatch cost."
    ),
}


def page(recorded: list[dict[str, Any]]) -> str:
    """Return the page of what is recorded.

    Args:
        recorded: What each library's file holds.

    Returns:
        Markdown.
    """
    head = HEAD.format(
        threads=_first_threads(recorded),
        five=_markdown(*table(recorded), unbroken=False),
        pictures="\n".join(map(_picture, recorded)),
        measured=_measured(recorded),
    )
    parts = [head, _machines(recorded)]
    for found in recorded:
        parts += _library(found)
    return "\n".join(parts)


def _first_threads(recorded: list[dict[str, Any]]) -> str:
    """Return the number of threads, and the clock, of the numbers at the top."""
    firsts = {(run["threads"], run["clock"]): None for run in _firsts(recorded)}
    return " or ".join(
        f"{count} thread{'s' * (count > 1)} by {clock} time" for count, clock in firsts
    )


def _firsts(recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [found["runs"][0] for found in recorded]


def _picture(found: dict[str, Any]) -> str:
    title = TITLES[found["library"]]
    return (
        f"```{{image}} images/{name_of(found)}\n"
        f":alt: {title}, the time of floors and of other ways over ours, as bars\n"
        "```\n"
    )


def _measured(recorded: list[dict[str, Any]]) -> str:
    """Return on how many threads, and by which clock, each library was measured."""
    ways: dict[str, list[str]] = {}
    for found in recorded:
        runs = (
            f"on {run['threads']} thread{'s' * (run['threads'] > 1)}"
            f" by {run['clock']} time"
            for run in found["runs"]
        )
        ways.setdefault(" and ".join(runs), []).append(TITLES[found["library"]])
    if len(ways) == 1:
        return f"All is measured {next(iter(ways))}."
    of_each = (f"{' and '.join(titles)} {way}" for way, titles in ways.items())
    return f"Measured are {'; '.join(of_each)}."


def _machines(recorded: list[dict[str, Any]]) -> str:
    lines = []
    for found in recorded:
        machine = found["machine"]
        lines.append(
            (
                TITLES[found["library"]],
                ", ".join(f"{k} {v}" for k, v in machine["versions"].items()),
                f"{machine['processor']}, {machine['cores']} cores",
                machine["date"],
                f"{found['seconds'] / 60:.0f} min",
            )
        )
    return _markdown(["library", "versions", "measured on", "date", "took"], lines)


def _library(found: dict[str, Any]) -> Iterator[str]:
    title = TITLES[found["library"]]
    clocks = [f"{run['threads']} ({run['clock']} time)" for run in found["runs"]]
    yield f"## {title}\n"
    yield f"Ratios on threads: {', in parentheses '.join(clocks)}.\n"
    groups: dict[str, list[Row]] = {}
    for row in rows(found):
        groups.setdefault(row.group, []).append(row)
    for group, members in groups.items():
        yield f"### {title}: {group[0].lower()}{group[1:]}\n"
        yield NOTES[group] + "\n"
        yield _table([row for row in members if not row.part_of])
        networks = {row.part_of: None for row in members if row.part_of}
        for network in networks:
            yield f"{network}, layer by layer:\n"
            yield _table([row for row in members if row.part_of == network])
    for skipped in found["runs"][0]["skipped"]:
        yield f"Not measured: {skipped['name']} ({skipped['why']}).\n"
    if found["runs"][0]["growth"]:
        yield f"### {title}: growth\n"
        yield (
            "The power of the size with which the time grows, fitted by least squares"
            " in the logarithms, beside what the arithmetic says.\n"
        )
        yield _growth(found["runs"])


def _table(members: list[Row]) -> str:
    """Return a table with a column for each way that a row is compared with."""
    columns = {"work": [row.name for row in members]}
    if any(row.count > 1 for row in members):
        columns["times"] = [str(row.count) for row in members]
    columns["ours"] = [_together(row.seconds, duration) for row in members]
    for name in _names([row.floors for row in members]):
        cells = [_together(row.floors.get(name, ()), ratio) for row in members]
        columns[f"floor: {name}"] = cells
    for name in _names([row.others for row in members]):
        columns[name] = [_together(row.others.get(name, ()), ratio) for row in members]
    for name in _names([row.memory for row in members]):
        values = [row.memory.get(name) for row in members]
        cells = ["" if value is None else ratio(value) for value in values]
        columns[f"memory: {name}"] = cells
    return _markdown([*columns], [*zip(*columns.values(), strict=True)])


def _names(of: list[dict[str, Any]]) -> list[str]:
    """Return the keys of all, each once, in order."""
    return [*dict.fromkeys(name for members in of for name in members)]


def _together(values: Sequence[float], written: Callable[[float], str]) -> str:
    """Return the first of several runs, the others in parentheses."""
    first, *rest = map(written, values) if values else ("",)
    return f"{first} ({', '.join(rest)})" if rest else first


def _markdown(
    header: list[str], lines: Sequence[Sequence[str]], *, unbroken: bool = True
) -> str:
    # Lines of a narrow cell break after a comma alone.
    kept = [
        [cell.replace(" ", UNBROKEN).replace("," + UNBROKEN, ", ") for cell in cells]
        if unbroken
        else cells
        for cells in lines
    ]
    rows = [header, ["---"] * len(header), *kept]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _growth(runs: list[dict[str, Any]]) -> str:
    lines = []
    for same in zip(*(run["growth"] for run in runs), strict=True):
        first = same[0]
        sizes = ", ".join(f"{size:,}" for size in first["sizes"])
        power = _together([found["exponent"] for found in same], "{:.2f}".format)
        expected = f"{first['expected']:g}"
        lines.append((first["name"], first["variable"], sizes, power, expected))
    return _markdown(["work", "grows", "sizes", "power", "arithmetic"], lines)
