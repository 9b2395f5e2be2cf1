"""Models as their authors write them, and the dense truth of their layers."""

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

import kfac_core as kc
from kfac_adapters.torch import capture

F = nn.functional


def loss_curvature(logits, loss):
    """The Hessian of the loss of each row, ``[rows, classes, classes]``."""
    if loss == "cross_entropy":
        p = logits.softmax(-1)
        return torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    eye = torch.eye(logits.shape[-1], dtype=logits.dtype)
    if loss == "mse_loss":
        return (2 * eye).expand(len(logits), -1, -1)
    p = logits.sigmoid()
    return torch.diag_embed(p * (1 - p))


def dense_fisher(model, x, names, loss="cross_entropy"):
    """The Fisher of the mean loss for some parameters, as one matrix."""
    params = {n: p.detach() for n, p in model.named_parameters()}
    own = {n: params[n] for n in names}

    def logits(own, case):
        return functional_call(model, {**params, **own}, (case[None],))[0]

    jacobians = vmap(jacrev(logits), (None, 0))(own, x)
    rows = [jacobians[n] for n in names]
    j = torch.cat([own.reshape(*own.shape[:2], -1) for own in rows], -1)
    h = loss_curvature(model(x).detach(), loss)
    return torch.einsum("ncp,ncd,ndq->pq", j, h, j) / len(j)


def statistics(model, x, loss="cross_entropy", mode="exact", **options):
    """The capture of a model, its estimator, and the statistics of one batch."""
    captured = capture(model, loss, **options)
    linearization = captured.linearize(x)
    estimator = kc.FisherEstimator(captured.collection, mode)
    key = torch.Generator().manual_seed(0) if estimator.needs_randomness else None
    state = estimator.init(captured.variables)
    state = estimator.update_covs(state, linearization, 0.0, key=key)
    return captured, estimator, state


def matrix(estimator, state, name):
    """The parameters of the layer of one, and its block, dense."""
    layer = next(x for x in estimator.layers if name in x.params)
    return layer.params, layer.block.full_fisher_block(state.blocks[layer.name])


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


class BasicBlock(nn.Module):
    """As torchvision's, its batch normalisation in evaluation mode or its like."""

    def __init__(self, inplanes, planes, stride=1, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = norm(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = norm(planes)
        self.downsample = nn.Sequential(
            nn.Conv2d(inplanes, planes, 1, stride, bias=False), norm(planes)
        )

    def forward(self, x):
        identity = self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        self.block = BasicBlock(2, 4, 2, norm)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.block(x), 1), 1))


class TiedLM(nn.Module):
    """A transformer of tokens, embedding and decoder one matrix."""

    def __init__(self, vocabulary=11, width=8, length=6):
        super().__init__()
        self.emb = nn.Embedding(vocabulary, width)
        self.pos = nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(
            width, 2, 16, dropout=0.0, batch_first=True, norm_first=True
        )
        self.enc = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, ids):
        positions = torch.arange(ids.shape[1])
        return self.head(self.norm(self.enc(self.emb(ids) + self.pos(positions))))


class Loop(nn.Module):
    """A layer that is called three times."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(self.a(x))
        return self.b(x)


def drawn(*shape, seed=0, dtype=torch.float64):
    key = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=key, dtype=dtype)


def labels(*shape, classes=3, seed=1):
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def seeded(make, seed=0):
    """A model of float64, the random state of PyTorch left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().double()


def mlp():
    return seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)))


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


def train(model, optimizer, steps=40, batch=64):
    key, losses = torch.Generator().manual_seed(3), []
    x = drawn(256, 6, dtype=next(model.parameters()).dtype)
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.5).long()
    for _ in range(steps):
        i = torch.randint(256, (batch,), generator=key)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[i]), y[i])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def same(found, expected, rtol=1e-10):
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=rtol, atol=1e-13)
