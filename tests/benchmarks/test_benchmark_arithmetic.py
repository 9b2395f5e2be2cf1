"""The arithmetic of a step is what the parts of a layer add up to."""

from benchmarks.work.arithmetic import Layer, ratio


def test_one_layer_by_hand():
    a, g, n = 3, 2, 5
    plain = 2 * (2 * n * a * g)  # the first layer has no gradient of its inputs
    statistics, inverses, product = n * (9 + 4), 27 + 8, 2 * a * g * (a + g)
    found = ratio([Layer(a, g)], n, draws=True, cov_every=2, invert_every=7)
    expected = (plain + statistics / 2 + inverses / 7 + product) / plain
    assert abs(found - expected) < 1e-12


def test_a_share_of_the_cases_costs_its_share_of_the_statistics():
    layers, rest = [Layer(3, 2)], {"draws": False, "cov_every": 1, "invert_every": 1}
    whole, half, none = (ratio(layers, 5, share=s, **rest) for s in (1, 0.5, 0))
    assert abs(2 * (whole - half) - (whole - none)) < 1e-12
    assert abs((whole - none) - 5 * (9 + 4) / (2 * (2 * 5 * 3 * 2))) < 1e-12


def test_a_draw_costs_the_gradients_of_inputs():
    layers, options = [Layer(4, 4), Layer(4, 4)], {"cov_every": 1, "invert_every": 1}
    with_draw, without = (
        ratio(layers, 8, draws=draws, **options) for draws in (True, False)
    )
    forward = 2 * 8 * 16
    assert abs((with_draw - without) - forward / (5 * forward)) < 1e-12
