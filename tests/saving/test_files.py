"""A state in a file is the same in every library, and only for the spec it is of."""

import dataclasses
import importlib.util
import json
import threading
import tracemalloc

import numpy as np
import pytest
from block_case import NumPy
from block_cases import BLOCKS
from factor_cases import FACTORS
from optimizer_cases import SHALLOW, optimizer_of, problem
from saved_states import NAMES, equal, updated

import kfac_core as kc
from kfac_core import tree


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


def like_of(library, spec):
    if isinstance(spec, kc.KfacOptimizer):
        return problem(library)[0]
    return library.asarray(np.zeros(1))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_numpy_is_read_by_every_library_and_back(plain_library, name, path):
    spec, state = updated(name)
    kc.save(path, state, spec)
    found = kc.load(path, spec, like=like_of(plain_library, spec))
    equal(found, state)
    first = path.read_bytes()
    kc.save(path, found, spec)
    equal(kc.load(path, spec, like=like_of(NumPy, spec)), state)
    assert path.read_bytes() == first


@pytest.mark.parametrize("name", [*BLOCKS, *FACTORS])
def test_a_file_of_every_kind_is_read_back(name, path):
    spec, state = updated(name, powers=(-1,))
    kc.save(path, state, spec)
    equal(kc.load(path, spec, like=np.zeros(1)), state)


def test_a_member_of_an_enumeration_is_no_other(path):
    other, state = updated("series-1")
    kc.save(path, state, other)
    with pytest.raises(
        kc.errors.StateError, match=r"option is \w+.option2, and was \w+.option1"
    ):
        kc.load(path, updated("series-2")[0], like=np.zeros(1))


def test_a_run_goes_on_bit_for_bit(path, plain_library):
    optimizer = optimizer_of(
        SHALLOW,
        momentum_type="regular",
        adapt_damping=True,
        damping_adaptation_interval=2,
        invert_every=2,
    )
    given = [problem(plain_library, seed=k, model=SHALLOW) for k in range(6)]
    (params, _), batches = given[0], [batch for _, batch in given]
    step = plain_library.compiled(optimizer.step)
    state = optimizer.init(params)
    for batch in batches[:3]:
        state, params, _ = step(state, params, batch)
    kc.save(path, state, optimizer, arrays=params)
    again = kc.load_arrays(path, like=params["dense_0/bias"])
    other = kc.load(path, optimizer, like=again)
    for batch in batches[3:]:
        state, params, _ = step(state, params, batch)
        other, again, _ = step(other, again, batch)
    equal(other, state)
    equal(again, params)
    assert float(state.damping) != 0.5


def test_numbers_drawn_after_a_resumption_are_the_same(path):
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 2)
    state, rng = block.init(np.zeros(1)), np.random.default_rng(3)
    rng.random(5)
    key = np.frombuffer(json.dumps(rng.bit_generator.state).encode(), np.uint8)
    kc.save(path, state, block, arrays={"key": key})
    found = kc.load_arrays(path, like=np.zeros(1))["key"]
    other = np.random.default_rng()
    other.bit_generator.state = json.loads(found.tobytes())
    np.testing.assert_array_equal(other.random(9), rng.random(9))


@pytest.mark.parametrize(
    "x",
    [
        np.asarray(3.5),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12)[::-2],
        np.broadcast_to(np.float32(2), (2, 3)),
        np.zeros((0, 3)),
        np.arange(3, dtype=">f8"),
        np.asarray([True, False]),
        np.arange(3, dtype=np.float16),
        np.asarray([np.nan, np.inf, -0.0]),
    ],
    ids=lambda x: f"{x.dtype}{x.shape}{x.strides}",
)
def test_arrays_of_any_order_and_dtype_return(path, x):
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 2)
    kc.save(path, block.init(np.zeros(1)), block, arrays={"x": x})
    found = kc.load_arrays(path, like=np.zeros(1))["x"]
    assert found.dtype == x.dtype.newbyteorder("=")
    assert found.shape == x.shape
    assert found.tobytes() == np.ascontiguousarray(x, found.dtype).tobytes()


@pytest.mark.parametrize("package", ["torch", "jax"])
def test_bfloat16_returns_bit_for_bit(path, package, needed):
    needed(package)
    backend = kc.load_backend(package)
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 2)
    wide = backend.from_numpy(np.asarray([1.0, 3.140625, -2e38, np.inf], np.float32))
    x = backend.xp.astype(wide, backend.xp.bfloat16)
    kc.save(path, block.init(np.zeros(1)), block, arrays={"x": x})
    found = kc.load_arrays(path, like=x)["x"]
    assert found.dtype == x.dtype
    assert bool(backend.xp.all(found == x))
    with pytest.raises(kc.errors.DTypeError, match="bfloat16"):
        kc.load_arrays(path, like=np.zeros(1))


CHANGES = {
    "matpowers": {"matpowers": (-0.5, -1)},
    "output_size": {"output_size": 3},
    "has_bias": {"has_bias": False},
    "zero_debias": {"zero_debias": False},
    "damping_type": {"damping_type": "off"},
}


@pytest.mark.parametrize("field", CHANGES)
def test_another_spec_is_refused_by_the_name_of_its_field(path, field):
    spec, state = updated("dense-bias")
    kc.save(path, state, spec)
    other = dataclasses.replace(spec, **CHANGES[field])
    with pytest.raises(kc.errors.StateError, match=rf"{field}.* is .* and was "):
        kc.load(path, other, like=np.zeros(1))


def test_a_field_of_a_layer_of_an_optimiser_is_named(path):
    spec, state = updated("optimizer")
    kc.save(path, state, spec)
    other = optimizer_of(momentum_type="qmodel", adapt_damping=True)
    layers = list(other.layer_collection.layers)
    block = dataclasses.replace(layers[1].block, damping_type="off")
    layers[1] = dataclasses.replace(layers[1], block=block)
    collection = dataclasses.replace(other.layer_collection, layers=tuple(layers))
    changed = dataclasses.replace(other, layer_collection=collection)
    params = problem(NumPy)[0]
    with pytest.raises(kc.errors.StateError, match=r"layers\[1\]\.block\.damping_type"):
        kc.load(path, changed, like=params)
    with pytest.raises(kc.errors.StateError, match="momentum_type is 'adam'"):
        kc.load(path, optimizer_of(momentum_type="adam"), like=params)
    with pytest.raises(kc.errors.StateError, match="class is 'FullyConnectedKFAC"):
        kc.load(path, block, like=params)


def test_what_may_change_is_no_reason_to_refuse(path):
    spec, state = updated("optimizer")
    kc.save(path, state, spec)
    other = dataclasses.replace(spec, invert_every=7, damping=0.1, l2_reg=0.5)
    equal(kc.load(path, other, like=problem(NumPy)[0]), state)
    block, state = updated("dense-bias")
    kc.save(path, state, block)
    other = dataclasses.replace(block, name="renamed", precision="default")
    equal(kc.load(path, other, like=np.zeros(1)), state)


def test_another_dtype_is_refused(path):
    spec, state = updated("dense-bias")
    kc.save(path, state, spec)
    with pytest.raises(kc.errors.DTypeError, match="float64, expected float32"):
        kc.load(path, spec, like=np.zeros(1, np.float32))


def test_the_header_holds_the_whole_spec(path):
    spec, state = updated("optimizer")
    kc.save(path, state, spec)
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    texts = header.pop("__metadata__")
    told = json.loads(texts["spec"])
    assert (texts["format"], texts["version"]) == ("kfac_core", "1")
    assert told["class"] == "KfacOptimizer"
    assert told["free"]["cov_ema_decay"] == spec.cov_ema_decay
    assert header["estimator.cases"]["dtype"] == "I64"


@pytest.mark.skipif(not importlib.util.find_spec("safetensors"), reason="not installed")
def test_safetensors_reads_the_file(path):
    from safetensors.numpy import load_file

    spec, state = updated("dense-bias")
    kc.save(path, state, spec)
    named = load_file(path)
    equal(kc.state_from_dict(spec.init(np.zeros(1)), named), state)


def test_arrays_lie_aligned_and_without_gaps(path):
    spec, state = updated("optimizer")
    kc.save(path, state, spec)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:start])
    header.pop("__metadata__")
    spans = sorted(entry["data_offsets"] for entry in header.values())
    assert start % 8 == 0
    assert [0, *(end for _, end in spans)] == [
        *(first for first, _ in spans),
        len(whole) - start,
    ]
    floats = [e for e in header.values() if e["dtype"] in ("F64", "I64")]
    assert all(entry["data_offsets"][0] % 8 == 0 for entry in floats)


def test_one_array_is_copied_at_a_time(path):
    block = kc.blocks.FullyConnectedKFACBasicFB(200, 200, has_bias=False)
    state = block.init(np.zeros(1))
    kc.save(path, state, block)
    tracemalloc.start()
    kc.save(path, state, block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    largest = max(x.nbytes for x in tree.leaves(state))
    assert sum(x.nbytes == largest for x in tree.leaves(state)) == 4
    assert largest < peak < 1.5 * largest


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    spec, state = updated("dense-bias")
    target, link = tmp_path / "a", tmp_path / "b"
    target.write_bytes(b"old")
    link.symlink_to(target)
    kc.save(link, state, spec)
    assert link.is_symlink()
    equal(kc.load(target, spec, like=np.zeros(1)), state)
    assert {*tmp_path.iterdir()} == {target, link}


def test_threads_that_save_to_one_path_leave_one_whole_file(path):
    block = kc.blocks.FullyConnectedKFACBasicFB(30, 30)
    states = [
        tree.map(lambda x, k=k: x + np.asarray(k, x.dtype), block.init(np.zeros(1)))
        for k in range(2)
    ]
    states = [s._replace(made_by=block.signature) for s in states]
    threads = [
        threading.Thread(target=lambda s=s: [kc.save(path, s, block) for _ in range(5)])
        for s in states
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = kc.load(path, block, like=np.zeros(1))
    assert float(found.scale) in {float(s.scale) for s in states}
    assert [*path.parent.iterdir()] == [path]


def test_a_state_of_another_spec_is_not_saved(path):
    spec, state = updated("dense-bias")
    with pytest.raises(kc.errors.StateError):
        kc.save(path, state, dataclasses.replace(spec, damping_type="off"))
    assert not path.exists()


def test_nothing_is_saved_within_a_trace(path, jax):
    spec = kc.blocks.FullyConnectedKFACBasicFB(2, 2)

    @jax.jit
    def step(state):
        kc.save(path, state, spec)
        return state

    with pytest.raises(kc.errors.KfacError, match="trace"):
        step(spec.init(jax.numpy.zeros(1)))
    assert not path.exists()


# Of Python 3.13's paths; PyTorch then leaves the program, as it should.
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace:UserWarning")
def test_nothing_is_saved_within_a_program_of_torch(path, torch):
    spec = kc.blocks.FullyConnectedKFACBasicFB(2, 2)

    def step(state):
        kc.save(path, state, spec)
        return state

    with pytest.raises(kc.errors.KfacError, match="trace"):
        torch.compile(step, backend="eager")(spec.init(torch.zeros(1)))
    assert not path.exists()


def test_a_program_of_torch_names_the_arrays_of_a_state(torch):
    spec, state = updated("dense-bias")
    state = tree.map(kc.load_backend("torch").from_numpy, state)
    found = torch.compile(kc.state_to_dict, backend="eager")(state)
    equal(
        kc.state_from_dict(spec.init(torch.zeros(1, dtype=torch.float64)), found), state
    )
