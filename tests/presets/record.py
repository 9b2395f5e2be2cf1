"""Records the factors of other libraries, each in an environment that has it.

``python tests/presets/record.py NAME ...`` writes ``recorded/NAME.json`` for each; the
versions are in `requirements-torch.txt`, and for some in `requirements-laplace.txt`.
``nox -s peers`` does so for all, and compares.
Nothing here is imported by the tests, which read the files alone.

`recorded_problem` has the model and the data.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

import torch
from recorded_kronfluence import influences, kronfluence, masked
from recorded_problem import (
    DAMPING,
    KINDS,
    N,
    layer_and_data,
    model_of,
    record_data,
)

RECORDED = Path(__file__).parent / "recorded"
PRIOR = 0.7
PACKAGES = {
    "curvlinops": "curvlinops-for-pytorch",
    "nngeometry": "nngeometry",
    "kronfluence": "kronfluence",
    "dattri": "dattri",
    "singd": "singd",
    "asdl": "asdfghjkl",
    "laplace": "laplace-torch",
    "backpack": "backpack-for-pytorch",
}
"""For each module the package that has it."""


def curvlinops(kind):
    from curvlinops import KFACLinearOperator

    found = {}
    approximation = "reduce" if kind == "reduce" else "expand"
    layer, x, y = layer_and_data("tokens" if kind == "reduce" else kind)
    model = model_of(layer)
    for name, reduction, fisher in (
        ("curvlinops", "mean", "empirical"),
        ("curvlinops, sum", "sum", "empirical"),
        ("curvlinops, type-2", "mean", "type-2"),
        ("curvlinops, forward-only", "mean", "forward-only"),
    ):
        operator = KFACLinearOperator(
            model,
            torch.nn.MSELoss(reduction=reduction),
            list(model.parameters()),
            [(x, y)],
            fisher_type=fisher,
            kfac_approx=approximation,
            separate_weight_and_bias=False,
            check_deterministic=False,
        )
        operator.compute_kronecker_factors()
        (a,) = operator._input_covariances.values()
        (g,) = operator._gradient_covariances.values()
        found[name] = a, g
    return found


def products(kind):
    """Products of curvlinops with its inverses, and its GGN.

    The inverse of K-FAC is damped in two ways, that of EKFAC exactly.
    """
    from curvlinops import (
        EKFACLinearOperator,
        GGNLinearOperator,
        KFACInverseLinearOperator,
        KFACLinearOperator,
    )

    layer, x, y = layer_and_data(kind)
    model, loss = model_of(layer), torch.nn.MSELoss()
    params = list(model.parameters())
    vector = [
        torch.linspace(-1, 1, p.numel()).double().reshape(p.shape) for p in params
    ]
    options = {"check_deterministic": False}
    kfac, ekfac = (
        make(
            model,
            loss,
            params,
            [(x, y)],
            fisher_type="empirical",
            separate_weight_and_bias=False,
            **options,
        )
        for make in (KFACLinearOperator, EKFACLinearOperator)
    )
    made = {"vector": [v.tolist() for v in vector], "damping": DAMPING}
    for rule, flag in (("pi", "use_heuristic_damping"), ("exact", "use_exact_damping")):
        inverse = KFACInverseLinearOperator(kfac, damping=DAMPING, **{flag: True})
        made[rule] = [v.tolist() for v in inverse @ vector]
    inverse = KFACInverseLinearOperator(ekfac, damping=DAMPING, use_exact_damping=True)
    made["EKFAC"] = [v.tolist() for v in inverse @ vector]
    ggn = GGNLinearOperator(model, loss, params, [(x, y)], **options)
    made["GGN"] = [v.tolist() for v in ggn @ vector]
    return made


def nngeometry(kind):
    from nngeometry.backend import TorchHooksJacobianBackend
    from nngeometry.layercollection import LayerCollection
    from nngeometry.metrics import FIM
    from nngeometry.object.pspace import PMatKFAC

    if kind == "tokens":
        return {}
    torch.set_default_dtype(torch.float64)  # its buffers have the default dtype
    layer, x, y = layer_and_data(kind)
    model = model_of(layer)

    def losses(x, y):
        return ((model(x) - y) ** 2).mean(dim=1, keepdim=True)

    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y), batch_size=N
    )
    collection = LayerCollection.from_model(model)
    generator = TorchHooksJacobianBackend(
        model=model, function=losses, layer_collection=collection
    )
    ((a, g),) = PMatKFAC(generator=generator, examples=loader).data.values()
    exact = FIM(model, loader, PMatKFAC, "regression", function=lambda x, y: model(x))
    return {"nngeometry": (a, g), "nngeometry, FIM": next(iter(exact.data.values()))}


def dattri(kind):
    from dattri.func.fisher import estimate_covariance

    if kind != "linear":
        return {}
    layer, x, y = layer_and_data(kind)
    out = layer(x)
    out.retain_grad()
    rows = torch.cat([x, torch.ones(N, 1, dtype=x.dtype)], dim=1)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y), batch_size=N
    )

    def loss(batch):
        return torch.nn.functional.mse_loss(out, batch[1])

    made = estimate_covariance(loss, loader, {"layer": (rows, out)})
    return {"dattri": made["layer"]}


def singd(kind):
    from singd.optim.utils import process_grad_output, process_input

    layer, x, y = layer_and_data(kind)
    out = layer(x)
    out.retain_grad()
    torch.nn.functional.mse_loss(out.flatten(1), y).backward()
    rows = process_input(x, layer, "expand")
    found = {}
    for name, average in (
        ("singd", "batch"),
        ("singd, sequence", "batch+sequence"),
        ("singd, none", None),
    ):
        g = process_grad_output(out.grad, layer, average, "expand")
        found[name] = rows.T @ rows, g.T @ g
    return found


def asdl(kind):
    import asdl as library

    layer, x, y = layer_and_data(kind)
    model = model_of(layer)
    config = library.FisherConfig(
        fisher_type=library.FISHER_EMP,
        fisher_shapes=[library.SHAPE_KRON],
        loss_type=library.LOSS_MSE,
        data_size=N,
    )
    maker = library.get_fisher_maker(model, config)
    call = maker.setup_model_call(model, x)
    maker.setup_loss_call(torch.nn.MSELoss(), call, y)
    maker.forward_and_backward()
    return {"asdl": (layer.fisher.kron.A, layer.fisher.kron.B)}


def fitted(kind, backend):
    """Return a Laplace approximation of the layer, and its first pair of factors."""
    from laplace import Laplace

    layer, x, y = layer_and_data(kind)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y), batch_size=N
    )
    made = Laplace(
        model_of(layer),
        "regression",
        subset_of_weights="all",
        hessian_structure="kron",
        backend=backend,
        prior_precision=PRIOR,
    )
    made.fit(loader)
    g, a = made.H_facs.kfacs[0]
    return made, (a, g)


def laplace(kind):
    from laplace.curvature import AsdlEF, CurvlinopsEF, CurvlinopsGGN

    found = {
        "laplace-torch": fitted(kind, CurvlinopsEF)[1],
        "laplace-torch, GGN": fitted(kind, CurvlinopsGGN)[1],
    }
    if kind == "tokens":  # where its two ways differ
        found["laplace-torch, asdl"] = fitted(kind, AsdlEF)[1]
    return found


def evidence(kind):
    """What laplace-torch says of the layer by its default, the GGN of half squares."""
    from laplace.curvature import CurvlinopsGGN

    made, _ = fitted(kind, CurvlinopsGGN)
    return {
        "prior": PRIOR,
        "half of squares": float(made.loss),
        "square of parameters": float((made.mean**2).sum()),
        "log det": float(made.posterior_precision.logdet()),
        "log marginal likelihood": float(made.log_marginal_likelihood()),
    }


def backpack(kind):
    import backpack as library
    from backpack.extensions import KFLR

    if kind == "tokens":
        return {}
    layer, x, y = layer_and_data(kind)
    model = library.extend(model_of(layer))
    loss = library.extend(torch.nn.MSELoss())(model(x), y)
    with library.backpack(KFLR()):
        loss.backward()
    g, a = layer.weight.kflr
    return {"backpack": (a, g)}


LIBRARIES = {
    "curvlinops": curvlinops,
    "nngeometry": nngeometry,
    "kronfluence": kronfluence,
    "dattri": dattri,
    "singd": singd,
    "asdl": asdl,
    "laplace": laplace,
    "backpack": backpack,
}


def record(library):
    """Return what a library computes, by convention and kind of layer."""
    cases = {}
    for kind in (*KINDS, "reduce") if library == "curvlinops" else KINDS:
        for name, (a, g) in LIBRARIES[library](kind).items():
            parts = {"A": a, "G": g}
            cases.setdefault(name, {})[kind] = {
                part: value.detach().double().numpy().tolist()
                for part, value in parts.items()
            }
    version = importlib.metadata.version(PACKAGES[library])
    made = {"version": version, "torch": torch.__version__, "factors": cases}
    if library == "curvlinops":
        made["products"] = {kind: products(kind) for kind in KINDS}
    if library == "kronfluence":
        made["influences"] = {kind: influences(kind) for kind in KINDS}
        made["masked tokens"] = masked()
    if library == "laplace":
        made["evidence"] = {kind: evidence(kind) for kind in KINDS}
    return made


def main(names):
    for name in names:
        made = record_data() if name == "data" else record(name)
        path = RECORDED / f"{name}.json"
        path.write_text(json.dumps(made, sort_keys=True) + "\n")
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:] or ["data", *LIBRARIES])
