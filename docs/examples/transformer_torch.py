"""A small transformer of characters with a tied embedding, with K-FAC.

The text is what ``help()`` says of Python's language, which every Python carries. Token
embedding and decoder are one matrix, and have one Kronecker product of both uses.

    python docs/examples/transformer_torch.py
"""

from pydoc_data.topics import topics

import torch
from comparison import arguments, draw, report, run
from torch import nn
from torch.nn import functional

from kfac_adapters.torch import KFAC

WIDTH, LENGTH, BATCH = 48, 48, 16
RATES = (3e-3, 1e-2, 3e-2)
"""The grid of AdamW's learning rates, each with a one-cycle schedule."""

WHAT = "cross-entropy of a character (other text)"


def data():
    """Return the text as numbers of its characters, and how many there are."""
    text = "".join(topics[name] for name in sorted(topics))
    characters = sorted(set(text))
    place = {character: i for i, character in enumerate(characters)}
    return torch.tensor([place[character] for character in text]), len(characters)


class Model(nn.Module):
    """Two layers of attention, as PyTorch has them."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.places = nn.Embedding(LENGTH, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(WIDTH)
        self.decoder = nn.Linear(WIDTH, vocabulary, bias=False)
        nn.init.normal_(self.tokens.weight, std=WIDTH**-0.5)
        self.decoder.weight = self.tokens.weight
        mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
        self.register_buffer("mask", mask)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits, ``[sequences, places, vocabulary]``."""
        x = self.tokens(ids) + self.places(torch.arange(LENGTH))
        x = self.layers(x, mask=self.mask, is_causal=True)
        return self.decoder(self.norm(x))


def train(label, make_optimizer, steps):
    """Return the curve of an optimiser, from the same start and on the same text."""
    torch.manual_seed(0)
    text, vocabulary = data()
    model, split = Model(vocabulary), len(text) * 9 // 10
    optimizer, schedule = make_optimizer(model, steps)
    drawn = torch.Generator().manual_seed(1)

    def batch(first, last, sequences):
        starts = torch.randint(first, last - LENGTH, (sequences, 1), generator=drawn)
        ids = text[starts + torch.arange(LENGTH + 1)]
        return ids[:, :-1], ids[:, 1:].flatten()

    test = batch(split, len(text), 4 * BATCH)

    def loss_of(ids, following):
        return functional.cross_entropy(model(ids).flatten(0, 1), following)

    def step(_):
        optimizer.zero_grad()
        loss_of(*batch(0, split, BATCH)).backward()
        optimizer.step()
        schedule.step()

    @torch.no_grad()
    def loss():
        return float(loss_of(*test))

    return run(label, steps, step, loss, points=20)


def one_cycle(optimizer, rate, steps):
    """Return a schedule of a rate that rises and falls once."""
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, cycle_momentum=False
    )


def kfac(model, steps):
    """K-FAC with a schedule of the same form."""
    optimizer = KFAC(
        model, damping=3e-2, norm_constraint=1e-3, cov_every=5, invert_every=20
    )
    return optimizer, one_cycle(optimizer, 0.3, steps)


def adamw(rate):
    """AdamW of a rate."""

    def make(model, steps):
        optimizer = torch.optim.AdamW(model.parameters(), rate)
        return optimizer, one_cycle(optimizer, rate, steps)

    return make


def main():
    """Compare."""
    given = arguments(__doc__, "transformer_torch")
    of_kfac, of_adamw = (3, 3) if given.quick else (120, 300)
    ours = train("K-FAC", kfac, of_kfac)
    others = [train(f"AdamW, lr {rate:g}", adamw(rate), of_adamw) for rate in RATES]
    report(ours, others, WHAT)
    draw(given.picture, ours, others, WHAT)


if __name__ == "__main__":
    main()
