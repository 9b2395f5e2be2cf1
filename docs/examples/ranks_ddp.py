"""K-FAC on several processes, each with a shard of every batch.

    torchrun --nproc-per-node 2 docs/examples/ranks_ddp.py

It needs `pip install -e '.[torch]'`. On GPUs, take the backend "nccl", and move the
model and the data to the device of the rank.
"""

import argparse

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from kfac_adapters.torch import KFAC


def data():
    """Return points of a square, and in which quarters they are."""
    key = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(1024, 2, generator=key) - 1
    return TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long())


def train(epochs):
    """Train, and return the last mean loss of all ranks."""
    torch.manual_seed(0)  # the same parameters on all ranks
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
    model = DistributedDataParallel(model)
    # Statistics and inverses are shared over the process group of the model.
    optimizer = KFAC(model, lr=0.3, damping=0.1, norm_constraint=1e-2)
    dataset = data()
    sampler = DistributedSampler(dataset, seed=0)
    loader = DataLoader(dataset, batch_size=64, sampler=sampler)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
    if distributed.get_rank() == 0:  # all ranks have the same state
        print(optimizer.coverage)
        torch.save({"optimizer": optimizer.state_dict()}, "checkpoint.pt")
    total = loss.detach().clone()
    distributed.all_reduce(total)
    return float(total) / distributed.get_world_size()


def main():
    """Read the arguments, and train."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    try:
        loss = train(epochs)
        if distributed.get_rank() == 0:
            print(f"loss {loss:.3f} on {distributed.get_world_size()} ranks")
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
