"""Every task that a developer repeats; ``nox --list`` shows them.

Each session has an environment of its own, kept from one run to the next.
"""

from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "tests"]

ROOT = Path(__file__).parent

LIBRARIES = {
    "numpy": ("test", "numpy,strict"),
    "torch": ("test,torch", "numpy,strict,torch"),
    "jax": ("test,jax", "numpy,strict,jax"),
    "all": ("all", "numpy,strict,torch,jax"),
}
"""Name of a session's library -> the extras to install, and what must be there."""

CORE = tuple(
    f"tests/{package}"
    for package in (
        *("backends", "linalg", "statistics", "fisher_factors", "fisher_blocks"),
        *("loss_functions", "layer_collection", "estimator", "optimizer"),
        *("reference", "states", "golden"),
    )
)
"""Tests of the mathematics, which stands on what each array library has."""

OF_RELEASES = (*CORE, "tests/tracing", "tests/saving")
"""What `oldest` runs: the core, its programs by a library's compiler, and its files."""

PYTHONS = (*nox.project.python_versions(nox.project.load_toml()), "3.14")
"""The versions of Python that `versions` tests: those that the project names, and one
that it will name as soon as it was seen to pass."""

OF_PYTHON = (
    *("tests/states", "tests/saving", "tests/backends/test_contract.py"),
    "tests/tracing/test_tracing_compile.py",
    *(
        "tests/optimizer/test_optimizer_whole.py",
        "tests/adapters/test_torch_capture.py",
    ),
    "tests/adapters/test_jax_capture.py",
)
"""Tests of what Python has a part in, whatever the library: trees of named tuples,
pickles, programs made of bytecode, modules whose calls are watched."""

OLDEST = ("numpy", "torch", "jax")
"""The libraries that `oldest` tests, each in an environment of its own."""

MEASURED = ("numpy", "torch", "jax")
"""The libraries that `bench` measures, each with its peers, and `endurance` runs."""

PEERS = {
    "torch": (
        "record.py",
        ["data", "curvlinops", "nngeometry", "kronfluence", "dattri", "singd", "asdl"],
    ),
    "laplace": ("record.py", ["laplace", "backpack"]),
    "jax": ("record_jax.py", []),
    "mlx": ("record_mlx.py", []),
}
"""What `peers` runs in an environment of its own each: a script, and libraries."""

PLAIN = "not strict and not readonly and not compiled"
"""Tests of arithmetic of its own: NumPy's is that of its wrappers, PyTorch's that of
the programs which `aot_eager` makes of its functions."""

PROCESSORS = {
    "avx2": (
        PLAIN,
        {
            "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
            "OPENBLAS_CORETYPE": "Haswell",
            "ATEN_CPU_CAPABILITY": "avx2",
        },
    ),
    "sse4": (
        PLAIN,
        {
            "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
            "OPENBLAS_CORETYPE": "Nehalem",
            "ATEN_CPU_CAPABILITY": "default",
        },
    ),
    "own": ("jax or jit", {"XLA_FLAGS": ""}),
}
"""Instruction set -> tests, and what makes JAX, NumPy and PyTorch use no later one.

All of them let XLA do all that it does of itself, of which `conftest.py` leaves out
what takes long elsewhere; "own" is for that alone.
"""

NUMERICAL = (
    "tests/backends/test_gram_runs.py",
    "tests/backends/test_long_sums.py",
    "tests/backends/test_long_positions.py",
    "tests/backends/test_backend_large.py",
    "tests/statistics/test_statistics_covariance.py",
    "tests/fisher_factors/test_factor_symmetry.py",
)
"""Tests whose bounds a processor could exceed, as it adds in another order."""

OWN_NAMES = "mparray or digits or ndonnx or mlx"
OWN = (
    *("tests/backends", "tests/reference/test_right_digits.py"),
    "tests/misuse/test_misused_digits.py",
)
"""The tests that are skipped where a library that few have is not installed."""

ENGINES = ("tests/docs/test_engines_example.py", "tests/collectives/test_engines.py")
"""The tests that are skipped where an engine is not installed."""

FRAMEWORKS = (
    *("tests/adapters/test_jax_other_hands.py", "tests/adapters/test_jax_optax.py"),
    *("tests/adapters/test_jax_flax_transposed.py", "tests/docs/test_saving_page.py"),
    "tests/adapters/test_jax_optimizer.py",
    "tests/docs/test_jax_example.py::test_the_example_runs_and_saves_a_picture[flax_digits]",
    "tests/saving/test_files.py::test_safetensors_reads_the_file",
    "tests/saving/test_formats_of_libraries.py::test_jax_serialises_a_step",
)
"""The tests that are skipped where Flax, Equinox, optax, orbax, safetensors or
flatbuffers is not installed, and some of their files."""

ONE_STEP = """
import importlib.util
import numpy as np
import kfac_core as kc

rng = np.random.default_rng(0)
x, g = rng.normal(size=(32, 4)), rng.normal(size=(32, 3))
block = kc.blocks.FullyConnectedKFACBasicFB(4, 3)
state = block.update_covs(block.init(like=x), x, g, ema_decay=0.95)
state = block.update_inverses(state, damping=1e-2)
step = block.multiply_inverse(state, x.T @ g / 32)
assert step.shape == (4, 3) and np.isfinite(step).all()
assert importlib.util.find_spec("backends") is None, "the wheel installs `backends`"
print("one step of K-FAC with", kc.__version__, "from", kc.__file__)
"""


def install(session: nox.Session, extras: str = "") -> None:
    """Install this project, editable, with the versions that it is tested with."""
    session.install("-c", "constraints.txt", "-e", f".[{extras}]" if extras else ".")


@nox.session
@nox.parametrize("library", [nox.param(name, id=name) for name in LIBRARIES])
def tests(session: nox.Session, library: str) -> None:
    """Run the tests with one array library, or all; its absence is a failure."""
    extras, expected = LIBRARIES[library]
    install(session, extras)
    arguments = session.posargs or ["-n", "auto"]
    session.run("pytest", *arguments, env={"KFAC_CORE_LIBRARIES": expected})


@nox.session
@nox.parametrize("processor", [nox.param(name, id=name) for name in PROCESSORS])
def processors(session: nox.Session, processor: str) -> None:
    """Run the numerical tests as on an older processor, whatever this one is."""
    install(session, LIBRARIES["all"][0])
    words, variables = PROCESSORS[processor]
    arguments = session.posargs or ["-q", "-n", "auto", *NUMERICAL]
    session.run("pytest", *arguments, "-k", words, env=variables)


@nox.session
@nox.parametrize("library", [nox.param(name, id=name) for name in OLDEST])
def oldest(session: nox.Session, library: str) -> None:
    """Run the tests of the core with the oldest releases that are allowed.

    PyTorch's needs an index that still has it: where it does not install, the session
    of PyTorch fails at once, and those of the others tell of theirs.
    """
    extras, expected = LIBRARIES[library]
    session.install("-c", "constraints-oldest.txt", "-e", f".[{extras}]")
    arguments = session.posargs or ["-q", "-n", "auto", *OF_RELEASES]
    session.run("pytest", *arguments, env={"KFAC_CORE_LIBRARIES": expected})


@nox.session(python=PYTHONS)
def versions(session: nox.Session) -> None:
    """Run the core's tests with other versions of Python; one not here is skipped.

    What Python has a part in runs with all libraries, the rest of the core with NumPy.
    An argument that selects tests, such as ``-k``, holds for both.
    """
    install(session, LIBRARIES["all"][0])
    arguments = session.posargs or ["-q", "-n", "auto"]
    # What an array library computes, `tests/backends`, is no matter of Python.
    for name, tests in (("all", OF_PYTHON), ("numpy", CORE[1:])):
        libraries = {"KFAC_CORE_LIBRARIES": LIBRARIES[name][1]}
        session.run("pytest", *arguments, *tests, env=libraries)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style, the format, and that imports point down."""
    install(session, "dev")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package and its backends."""
    install(session, "dev")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation and run its examples; warnings are errors."""
    install(session, "docs,torch,jax")
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build/html")


@nox.session
def pages(session: nox.Session) -> None:
    """Build the documentation; check its links, and in Chromium its widths."""
    install(session, "docs,torch,jax")
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build/html")
    session.run("python", "docs/check_pages.py", "docs/_build/html")


@nox.session
def demo(session: nox.Session) -> None:
    """Train a small network with K-FAC and show what it does."""
    install(session, "demo")
    session.run("kfac-core", "demo", *session.posargs)


@nox.session
@nox.parametrize("library", [nox.param(name, id=name) for name in MEASURED])
def bench(session: nox.Session, library: str) -> None:
    """Measure one library against its floors and other K-FAC libraries."""
    install(session, LIBRARIES[library][0])
    peers = ROOT / "benchmarks" / f"peers-{library}.txt"
    if peers.exists():
        session.install("-c", "constraints.txt", "-r", str(peers))
    session.run("python", "-m", "benchmarks", "--library", library, *session.posargs)


@nox.session
@nox.parametrize("library", [nox.param(name, id=name) for name in MEASURED])
def endurance(session: nox.Session, library: str) -> None:
    """Make a long run with faults in between, and many runs at once."""
    install(session, LIBRARIES[library][0])
    command = ["python", "-m", "benchmarks.endurance", "--library", library]
    session.run(*command, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def arrays(session: nox.Session) -> None:
    """Try the libraries that no other session has, and test the backends for them."""
    install(session, "test")
    session.install("-r", "benchmarks/arrays.txt")
    # OpenCL looks for its drivers elsewhere than pip puts them.
    driver = Path(session.virtualenv.location, "lib", "libintelocl.so")
    session.run(
        "python", "-m", "benchmarks.arrays", env={"OCL_ICD_FILENAMES": str(driver)}
    )
    session.run("python", "-m", "benchmarks.digits")
    arguments = session.posargs or ["-q", "--timeout", "1800", "-k", OWN_NAMES, *OWN]
    session.run("pytest", *arguments, env={"KFAC_CORE_LIBRARIES": "numpy,strict"})


@nox.session
def engines(session: nox.Session) -> None:
    """Map and reduce on Dask and on MPI, which no other session has."""
    install(session, "test")
    session.install("-r", "benchmarks/engines.txt")
    arguments = session.posargs or ["-q", *ENGINES]
    session.run("pytest", *arguments, env={"KFAC_CORE_LIBRARIES": "numpy,strict"})


@nox.session
def frameworks(session: nox.Session) -> None:
    """Run the tests of models and files of other libraries, which few tests need."""
    install(session, "all")
    session.install("-c", "constraints.txt", "-r", "benchmarks/frameworks.txt")
    session.run("pytest", "-q", *FRAMEWORKS, *session.posargs)


@nox.session
def models(session: nox.Session) -> None:
    """Train models of other libraries with K-FAC, as they are."""
    install(session, "torch")
    session.install("-c", "constraints.txt", "-r", "benchmarks/models.txt")
    session.run("python", "-m", "benchmarks.models", *session.posargs)


@nox.session
def models_jax(session: nox.Session) -> None:
    """Train models of JAX's libraries with K-FAC, as they are."""
    install(session, "jax")
    session.install("-c", "constraints.txt", "-r", "benchmarks/models_jax.txt")
    session.run("python", "-m", "benchmarks.models_jax", *session.posargs)


@nox.session
@nox.parametrize("group", [nox.param(name, id=name) for name in PEERS])
def peers(session: nox.Session, group: str) -> None:
    """Record the factors of other K-FAC libraries anew, and compare ours with them."""
    script, names = PEERS[group]
    has_torch = script == "record.py"
    install(session, "test,torch" if has_torch else "test")
    wanted = f"tests/presets/requirements-{group}.txt"
    # kfac-jax needs another JAX than ours.
    pinned = () if group == "jax" else ("-c", "constraints.txt")
    session.install(*pinned, "-r", wanted)
    if group == "laplace":
        # Nothing here needs it, and torchmetrics imports it where it is: PyPI's builds
        # load beside no other build of PyTorch than PyPI's own.
        session.run("python", "-m", "pip", "uninstall", "-y", "torchvision")
    session.run("python", f"tests/presets/{script}", *names)
    expected = "numpy,strict,torch" if has_torch else "numpy,strict"
    arguments = ["-q", "tests/presets", *session.posargs]
    session.run("pytest", *arguments, env={"KFAC_CORE_LIBRARIES": expected})


@nox.session(reuse_venv=False)
def package(session: nox.Session) -> None:
    """Build the sdist and from it the wheel; use the wheel away from the sources."""
    session.install("build")
    away = session.create_tmp()
    for old in Path(away).glob("kfac_core-*"):
        old.unlink()
    session.run("python", "-m", "build", "--outdir", away, str(ROOT))
    (wheel,) = Path(away).glob("*.whl")
    session.install("-c", "constraints.txt", str(wheel))
    session.chdir(away)
    session.run("python", "-c", ONE_STEP)
    session.run("kfac-core", "info")
