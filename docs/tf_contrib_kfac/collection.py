"""``LayerCollection``: its functions, and what their arguments are here."""

from collections.abc import Mapping

from tf_contrib_kfac.tables import Name, Original, same

_NO_GRAPH = Name("", "there is no graph")
_DEFAULT = Name("", "a collection is a value: it is passed, and there is no default")

COLLECTION = Original(
    "LayerCollection",
    "both",
    {"graph": _NO_GRAPH, "name": Name("", "nothing is looked up by it")},
    {
        "fisher_blocks": Name("layers", "each with its `block`, a spec"),
        "get_blocks": Name("layers", "each with its `block`, a spec"),
        "fisher_factors": Name("FisherBlock.factors", "each block has its own"),
        "get_factors": Name("FisherBlock.factors", "each block has its own"),
        "losses": Name("losses", "each with its `loss`, a spec"),
        "towers_by_loss": Name("layer_collection.LossRegistration.towers"),
        "loss_coeffs": Name("layer_collection.LossRegistration.coeff"),
        "registered_variables": Name("registered_variables", "names"),
        "linked_parameters": Name("linked_parameters", "sets of names"),
        "define_linked_parameters": Name("define_linked_parameters"),
        "check_registration": Name(
            "check_registration", "of the parameters that the collection was made of"
        ),
        "register_block": Name("register_block", "takes the site of its data"),
        "eval_losses": Name(
            "registered_losses.losses_at", "yields each loss with what it takes"
        ),
        "eval_losses_on_samples": Name("LossFunction.evaluate_on_sample"),
        "total_loss": Name("registered_losses.total_loss"),
        "total_sampled_loss": Name(
            "LossFunction.evaluate_on_sample", "summed over the losses"
        ),
        **{
            f"set_default_{kind}_approximation": Name(
                f"set_default_{kind}_approximation"
            )
            for kind in (
                "generic",
                "embedding",
                "fully_connected",
                "fully_connected_multi",
                "conv2d",
                "conv2d_multi",
                "scale_and_shift",
            )
        },
        "finalize": Name("", "nothing changes a collection: each function returns one"),
        "as_default": _DEFAULT,
        "graph": _NO_GRAPH,
        "subgraph": _NO_GRAPH,
    },
)

_COMMON = {
    **same("params", "approx", "reuse"),
    "inputs": Name("site"),
    "outputs": Name("site"),
}
"""The arguments of all layers that have a site."""

_OPTION = Name("options", "a field of the block")
_SUB_SAMPLE = {"sub_sample_inputs": _OPTION, "sub_sample_patches": _OPTION}
_USES = same("num_uses")


def _layer(kind: str, release: str, own: Mapping[str, Name]) -> Original:
    name = f"register_{kind}"
    return Original(name, release, {**_COMMON, **own}, core=f"LayerCollection.{name}")


LAYER_FUNCTIONS = (
    _layer("fully_connected", "both", same("dense_inputs")),
    _layer("fully_connected_multi", "both", {**_USES, **same("dense_inputs")}),
    _layer("embedding", "r1.10", {}),
    _layer("embedding_multi", "r1.10", _USES),
    _layer(
        "conv2d",
        "both",
        {
            **same("strides", "padding", "data_format", "dilations"),
            **_SUB_SAMPLE,
            "patch_mask": _OPTION,
        },
    ),
    _layer(
        "conv2d_multi",
        "both",
        {**same("strides", "padding", "data_format", "dilations"), **_USES},
    ),
    _layer(
        "conv1d", "2022", {**same("strides", "padding", "dilations"), **_SUB_SAMPLE}
    ),
    _layer(
        "convolution",
        "both",
        {
            **same("padding", "strides", "data_format"),
            "dilation_rate": Name("dilations"),
        },
    ),
    _layer(
        "depthwise_conv2d",
        "both",
        {**same("strides", "padding", "data_format"), "rate": Name("dilations")},
    ),
    Original(
        "register_separable_conv2d",
        "both",
        {
            **same("depthwise_params", "pointwise_params"),
            "inputs": Name("depthwise_site"),
            "depthwise_outputs": Name("depthwise_site"),
            "pointwise_outputs": Name("pointwise_site"),
            **same("strides", "padding", "data_format", "approx", "reuse"),
            "rate": Name("dilations"),
        },
        core="LayerCollection.register_separable_conv2d",
    ),
    Original(
        "register_scale_and_shift",
        "2022",
        {
            **_COMMON,
            "inputs": Name("site", "and their shape as `input_shape`"),
            "outputs": Name("site", "and their shape as `output_shape`"),
        },
        core="LayerCollection.register_scale_and_shift",
    ),
    Original(
        "register_generic",
        "both",
        {
            **same("params", "approx", "reuse"),
            "batch_size": Name("Linearization.batch_size"),
        },
        core="LayerCollection.register_generic",
    ),
)

_LOSS = {
    "seed": Name("FisherEstimator.update_covs(key)"),
    "targets": Name("Linearization.targets"),
    **same("name", "coeff", "reuse"),
}
_FROM_MODEL = Name("site")


def _loss(kind: str, release: str, own: Mapping[str, Name]) -> Original:
    name = f"register_{kind}"
    return Original(name, release, {**own, **_LOSS}, core=f"LayerCollection.{name}")


LOSS_FUNCTIONS = (
    Original(
        "register_loss_function",
        "both",
        {
            "loss": Name("loss", "a spec, whose inputs a model gives: `site`"),
            "colocation_op": Name("", "nothing is placed"),
            "base_name": Name("", "the name of the loss's class"),
            **same("name", "coeff", "reuse"),
        },
        core="LayerCollection.register_loss_function",
    ),
    *(
        _loss(kind, release, {"logits": _FROM_MODEL})
        for kind, release in (
            ("categorical_predictive_distribution", "both"),
            ("softmax_cross_entropy_loss", "2022"),
            ("multi_bernoulli_predictive_distribution", "both"),
            ("sigmoid_cross_entropy_loss", "2022"),
        )
    ),
    _loss(
        "normal_predictive_distribution", "both", {"mean": _FROM_MODEL, **same("var")}
    ),
    _loss("squared_error_loss", "2022", {"prediction": _FROM_MODEL}),
)
