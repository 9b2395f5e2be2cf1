"""The factors of kronfluence, and its scores of influence, for `record.py`."""

import tempfile

import torch
from recorded_problem import DAMPING, N, layer_and_data, model_of


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


def kronfluence(kind):
    from kronfluence.factor.covariance import fit_covariance_matrices_with_loader
    from kronfluence.module.utils import wrap_tracked_modules
    from kronfluence.utils.state import State

    found = {}
    for name, reduction in (("kronfluence, mean", "mean"), ("kronfluence", "sum")):
        layer, x, y = layer_and_data(kind)
        task, arguments = task_of(reduction), in_float64()
        model = wrap_tracked_modules(model_of(layer), task, factor_args=arguments)
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(x, y), batch_size=N
        )
        _, made = fit_covariance_matrices_with_loader(
            model, State(cpu=True), task, loader, arguments, disable_tqdm=True
        )
        (a,) = made["activation_covariance"].values()
        (g,) = made["gradient_covariance"].values()
        (rows,) = made["num_activation_covariance_processed"].values()
        (others,) = made["num_gradient_covariance_processed"].values()
        found[name] = a / rows, g / others
    return found


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
