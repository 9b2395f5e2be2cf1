"""A file of a version whose specs had other fields is read, or refused by the field."""

import dataclasses
import json
from dataclasses import dataclass

import numpy as np
import pytest
from block_cases import BLOCKS
from factor_cases import FACTORS
from saved_states import equal, updated

import kfac_core as kc
from kfac_core.fisher_factors import FullyConnectedKroneckerFactor
from kfac_core.saving.compared import check_same
from kfac_core.saving.described import described

LIKE = np.zeros(1)
OTHER_VERSION = "another version of kfac_core wrote it: load it with that one"


@dataclass(frozen=True)
class Earlier(FullyConnectedKroneckerFactor):
    pass


@dataclass(frozen=True)
class Later(FullyConnectedKroneckerFactor):
    """The same class, which has gained a field that its statistics depend on."""

    exponent: float = dataclasses.field(default=1.0, kw_only=True)


@dataclass(frozen=True)
class Demanding(FullyConnectedKroneckerFactor):
    """The same, whose field has no default."""

    exponent: float = dataclasses.field(kw_only=True)


for _cls in (Earlier, Later, Demanding):
    _cls.__qualname__ = "OfAUser"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


def folded(spec):
    return spec.update_cov(spec.init(LIKE), np.arange(6.0).reshape(3, 2), 0.5)


def test_a_field_that_the_file_does_not_have_yet_is_at_its_default(path):
    state = folded(Earlier(2))
    kc.save(path, state, Earlier(2))
    found = kc.load(path, Later(2), like=LIKE)
    np.testing.assert_array_equal(Later(2).get_cov(found), Earlier(2).get_cov(state))
    with pytest.raises(kc.errors.StateError) as error:
        kc.load(path, Later(2, exponent=2.0), like=LIKE)
    assert (
        "exponent is 2.0, and was 1.0, the default of a field that the file does not"
        " have yet; load it with the spec"
    ) in str(error.value)


def test_a_field_without_a_default_is_refused_by_name(path):
    kc.save(path, folded(Earlier(2)), Earlier(2))
    with pytest.raises(kc.errors.StateError) as error:
        kc.load(path, Demanding(2, exponent=1.0), like=LIKE)
    assert "does not say what exponent is, which has no default" in str(error.value)
    assert OTHER_VERSION in str(error.value)


@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_a_field_that_this_version_does_not_have_is_refused_by_name(path, exponent):
    kc.save(path, folded(Later(2, exponent=exponent)), Later(2, exponent=exponent))
    with pytest.raises(kc.errors.StateError) as error:
        kc.load(path, Earlier(2), like=LIKE)
    assert f"exponent is {exponent}, and OfAUser has no such field" in str(error.value)
    assert OTHER_VERSION in str(error.value)


@pytest.mark.parametrize("name", ["dense-bias", "optimizer"])
def test_an_array_that_the_file_does_not_have_yet_is_refused_by_name(
    path, name, monkeypatch
):
    spec, state = updated(name)
    to_dict = kc.state_to_dict
    dropped = [*to_dict(state)][1]
    monkeypatch.setattr(
        "kfac_core.saving.file.state_to_dict",
        lambda x: {k: v for k, v in to_dict(x).items() if k != dropped},
    )
    kc.save(path, state, spec)
    like = LIKE if name == "dense-bias" else state.velocity
    with pytest.raises(kc.errors.StateError) as error:
        kc.load(path, spec, like=like)
    assert str(error.value).endswith(f"lacks {dropped!r}; {OTHER_VERSION}")


def every_spec():
    """Yield a spec of each kind, as it is and with other options."""
    for case in BLOCKS.values():
        yield case.made(None, (-1,))
    for case in FACTORS.values():
        yield case.make(**case.all_served(-0.5))
    yield updated("optimizer", 0)[0]


def parts_of(value, description):
    """Yield all objects with fields in a spec, with their parts of a description."""
    if isinstance(description, list) and isinstance(value, tuple):
        for own, part in zip(value, description, strict=True):
            yield from parts_of(own, part)
    elif isinstance(description, dict) and "class" in description:
        yield value, description
        for name, part in description["fields"].items():
            yield from parts_of(getattr(value, name, None), part)


def test_every_field_may_have_been_added():
    """Without it the file has its default: the spec is another where it has not."""
    seen = {True: 0, False: 0}
    for spec in every_spec():
        told = json.loads(json.dumps(described(spec)))
        check_same(told, spec, "load")
        for value, part in parts_of(spec, told):
            for name, own in [*part["fields"].items()]:
                defaults = {f.name: f.default for f in dataclasses.fields(value)}
                is_default = described(defaults.get(name, "none")) == own
                del part["fields"][name]
                if is_default:
                    check_same(told, spec, "load")
                else:
                    with pytest.raises(kc.errors.StateError, match=name):
                        check_same(told, spec, "load")
                part["fields"][name] = own
                seen[is_default] += 1
    assert min(seen.values()) > 200


def test_which_fields_a_state_depends_on_is_for_the_reader_to_say():
    spec = FACTORS["rows"].make()
    told = described(spec)
    freed = {**told["fields"], "name": "other", "precision": "high"}
    check_same({**told, "fields": freed, "free": {}}, spec, "load")
    bound = {**told["free"], **told["fields"]}
    check_same({**told, "fields": {}, "free": bound}, spec, "load")
    size = next(iter(told["fields"]))
    wrong = {**told, "fields": {}, "free": {**bound, size: "wrong"}}
    with pytest.raises(kc.errors.StateError, match=f"{size} is .*, and was 'wrong'"):
        check_same(wrong, spec, "load")


def test_a_file_of_this_version_is_read_as_before(path):
    spec, state = updated("optimizer")
    kc.save(path, state, spec)
    equal(kc.load(path, spec, like=state.velocity), state)
