"""The factors of kronfluence, and its scores of influence, for `record.py`."""

import tempfile

import torch
from recorded_problem import DAMPING, OUT, N, T, layer_and_data, model_of

LENGTHS = (7, 3, 5, 1, 7, 4)
"""Tokens of each case that are no padding, for what is recorded with a mask."""


def task_of(reduction):
    """Return the task of a squared error, which is also what is measured."""
    from kronfluence.task import Task

    class Squares(Task):
        def compute_train_loss(self, batch, model, sample=False):
            x, y = batch
            return torch.nn.functional.mse_loss(model(x), y, reduction=reduction)

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    return Squares()


def in_float64():
    from kronfluence.arguments import FactorArguments

    return FactorArguments(
        use_empirical_fisher=True,
        activation_covariance_dtype=torch.float64,
        gradient_covariance_dtype=torch.float64,
        per_sample_gradient_dtype=torch.float64,
        lambda_dtype=torch.float64,
    )


def factors(task, layer, *data):
    """Return ``A`` and ``G`` of a layer."""
    from kronfluence.factor.covariance import fit_covariance_matrices_with_loader
    from kronfluence.module.utils import wrap_tracked_modules
    from kronfluence.utils.state import State

    arguments = in_float64()
    model = wrap_tracked_modules(model_of(layer), task, factor_args=arguments)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*data), batch_size=N
    )
    _, made = fit_covariance_matrices_with_loader(
        model, State(cpu=True), task, loader, arguments, disable_tqdm=True
    )
    (a,) = made["activation_covariance"].values()
    (g,) = made["gradient_covariance"].values()
    (rows,) = made["num_activation_covariance_processed"].values()
    (others,) = made["num_gradient_covariance_processed"].values()
    return a / rows, g / others


def kronfluence(kind):
    return {
        name: factors(task_of(reduction), *layer_and_data(kind))
        for name, reduction in (("kronfluence, mean", "mean"), ("kronfluence", "sum"))
    }


def masked():
    """The factors of a layer of padded tokens, which its loss ignores."""
    from kronfluence.task import Task

    class PaddedSquares(Task):
        def compute_train_loss(self, batch, model, sample=False):
            x, y, mask = batch
            squares = (model(x) - y) ** 2
            return (squares.reshape(N, T, OUT) * mask[..., None]).sum()

        compute_measurement = compute_train_loss

        def get_attention_mask(self, batch):
            return batch[2]

    mask = (torch.arange(T) < torch.tensor(LENGTHS)[:, None]).long()
    a, g = factors(PaddedSquares(), *layer_and_data("tokens"), mask)
    return {"mask": mask.tolist(), "A": a.tolist(), "G": g.tolist()}


def influences(kind):
    """The influence of all cases on one another's loss by kronfluence's EKFAC."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import ScoreArguments

    layer, x, y = layer_and_data(kind)
    task, data = task_of("sum"), torch.utils.data.TensorDataset(x, y)
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer(
            "squares",
            prepare_model(model_of(layer), task),
            task,
            cpu=True,
            disable_tqdm=True,
            output_dir=folder,
        )
        analyzer.fit_all_factors(
            "ekfac", data, per_device_batch_size=N, factor_args=in_float64()
        )
        analyzer.compute_pairwise_scores(
            "scores",
            "ekfac",
            query_dataset=data,
            train_dataset=data,
            per_device_query_batch_size=N,
            per_device_train_batch_size=N,
            score_args=ScoreArguments(
                damping_factor=DAMPING,
                score_dtype=torch.float64,
                per_sample_gradient_dtype=torch.float64,
                precondition_dtype=torch.float64,
            ),
        )
        scores = analyzer.load_pairwise_scores("scores")["all_modules"]
        made = analyzer.load_lambda_matrices("ekfac")
        (total,) = made["lambda_matrix"].values()
        (cases,) = made["num_lambda_processed"].values()
    return {
        "damping": DAMPING,
        "scores": scores.tolist(),
        "trace": float((total / cases).sum()),
    }
