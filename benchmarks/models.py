"""Train models of other libraries, unmodified, with K-FAC.

``python -m benchmarks.models`` prints the table of ``docs/your_model_torch.md``: each
model is made small, with random weights, and takes three steps on one batch.
"""

import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
import transformers as of
from torch.nn import functional

from kfac_adapters.torch import KFAC
from kfac_core.errors import KfacError

Training = tuple[torch.nn.Module, Callable[[], torch.Tensor]]
"""A model, and what computes the loss of its batch."""

STEPS, WORDS, CLASSES, PIXELS = 3, 100, 10, 32

TEXT: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
GROUPED = {**TEXT, "num_key_value_heads": 2, "pad_token_id": 0}
HEADS = {**GROUPED, "head_dim": 8}
OLD = {"vocab_size": WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
IMAGE = {
    **{key: TEXT[key] for key in [*TEXT][1:]},
    "image_size": PIXELS,
    "patch_size": 8,
    "num_labels": CLASSES,
}
WINDOWS = {
    "image_size": PIXELS,
    "patch_size": 2,
    "embed_dim": 16,
    "window_size": 4,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "num_labels": CLASSES,
}

LANGUAGE: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-2": ("GPT2", {**OLD, "bos_token_id": 0, "eos_token_id": 0}),
    "GPT-J": ("GPTJ", {**OLD, "rotary_dim": 4}),
    "GPT-NeoX": ("GPTNeoX", TEXT),
    "Llama": ("Llama", GROUPED),
    "Mistral": ("Mistral", GROUPED),
    "Qwen 3": ("Qwen3", HEADS),
    "Gemma 2": ("Gemma2", HEADS),
    "Phi-3": ("Phi3", {**GROUPED, "eos_token_id": 1}),
    "OLMo 2": ("Olmo2", GROUPED),
    "Mixtral (experts)": ("Mixtral", {**GROUPED, "num_local_experts": 4}),
    "gpt-oss (experts)": ("GptOss", {**HEADS, "num_local_experts": 4}),
    "BLOOM": ("Bloom", {**OLD, "hidden_size": 32}),
    "Mamba": ("Mamba", {**TEXT, "state_size": 4}),
}
"""A model -> the prefix of its classes, and its sizes."""

MASKED = {
    "BERT": ("Bert", TEXT),
    "RoBERTa": ("Roberta", {**TEXT, "max_position_embeddings": 64}),
    "ALBERT": ("Albert", {**TEXT, "embedding_size": 16}),
    "ModernBERT": ("ModernBert", {**TEXT, "pad_token_id": 0}),
    "DeBERTa v2": ("DebertaV2", {**TEXT, "relative_attention": True}),
    "FNet": ("FNet", TEXT),
}
TRANSLATION = {"T5": ("T5", {"vocab_size": WORDS, **T5, "decoder_start_token_id": 0})}
VISION: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("ViT", IMAGE),
    "Swin": ("Swin", WINDOWS),
    "Swin v2": ("Swinv2", WINDOWS),
    "ResNet": (
        "ResNet",
        {
            "embedding_size": 8,
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "num_labels": CLASSES,
        },
    ),
    "SegFormer": (
        "Segformer",
        {
            "hidden_sizes": [16] * 4,
            "num_attention_heads": [1] * 4,
            "depths": [1] * 4,
            "num_labels": CLASSES,
        },
    ),
}


def _made(kind: str, prefix: str, sizes: dict[str, Any]) -> torch.nn.Module:
    config = getattr(of, f"{prefix}Config")(**sizes)
    model: torch.nn.Module = getattr(of, f"AutoModelFor{kind}").from_config(config)
    return model


def _of_text(model: torch.nn.Module) -> Training:
    ids = torch.randint(1, WORDS, (2, 16))
    return model, lambda: model(input_ids=ids, labels=ids).loss


def _of_images(model: torch.nn.Module) -> Training:
    x, y = torch.randn(4, 3, PIXELS, PIXELS), torch.randint(CLASSES, (4,))
    return model, lambda: functional.cross_entropy(model(pixel_values=x).logits, y)


def _of_sound() -> Training:
    sizes = {"conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3)}
    rest = {"num_feat_extract_layers": 2, "num_labels": 3, "classifier_proj_size": 16}
    own = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    given = {**TEXT, **sizes, **rest, **own, "mask_time_prob": 0.0}
    model = _made("AudioClassification", "Wav2Vec2", given)
    x, y = torch.randn(4, 400), torch.randint(3, (4,))
    return model, lambda: model(input_values=x, labels=y).loss


def _with_adapters() -> Training:
    from peft import LoraConfig, get_peft_model

    plain: Any = _made("CausalLM", *LANGUAGE["Llama"])
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    return _of_text(get_peft_model(plain, config))


def _of_graph(name: str) -> Training:
    import torch_geometric.nn as graphs

    model = getattr(graphs, name)(8, 16, 2, 3)
    x, y = torch.randn(20, 8), torch.randint(3, (20,))
    edges = torch.randint(20, (2, 60))
    return model, lambda: functional.cross_entropy(model(x, edges), y)


def _by_lucidrains() -> Training:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=32, depth=2, heads=4)
    model = TransformerWrapper(num_tokens=WORDS, max_seq_len=32, attn_layers=layers)
    ids = torch.randint(WORDS, (2, 16))
    return model, lambda: functional.cross_entropy(model(ids).mT, ids)


def models() -> dict[tuple[str, str], Callable[[], Training]]:
    """Return the models: for a library and a name, what makes a model and a batch."""
    found: dict[tuple[str, str], Callable[[], Training]] = {}
    kinds: list[tuple[str, Any, Callable[[Any], Training]]] = [
        ("CausalLM", LANGUAGE, _of_text),
        ("MaskedLM", MASKED, _of_text),
        ("Seq2SeqLM", TRANSLATION, _of_text),
        ("ImageClassification", VISION, _of_images),
    ]
    for kind, table, batch in kinds:
        for name, given in table.items():
            found["transformers", name] = lambda kind=kind, given=given, batch=batch: (
                batch(_made(kind, *given))
            )
    found["transformers", "wav2vec 2.0"] = _of_sound
    found["peft", "Llama with LoRA"] = _with_adapters
    found["torch-geometric", "GCN"] = lambda: _of_graph("GCN")
    found["torch-geometric", "GAT"] = lambda: _of_graph("GAT")
    found["x-transformers", "Decoder"] = _by_lucidrains
    return found


def row(library: str, name: str, make: Callable[[], Training]) -> str:
    """Train a model, and return its row of the table."""
    torch.manual_seed(0)
    model, loss_of = make()
    left = ""
    for unclaimed in ("error", "diagonal"):
        optimizer = KFAC(model, 0.05, 0.1, norm_constraint=1e-2, unclaimed=unclaimed)
        losses = []
        try:
            for _ in range(STEPS):
                optimizer.zero_grad()
                loss = loss_of()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        except KfacError as error:
            left = str(error).partition(". Say")[0]
            optimizer.remove()
            continue
        break
    else:
        return f"| {library} | {name} | no: {left} | |"
    share = f"{optimizer.coverage.share:.1%}"
    others = "" if not left else ": " + ", ".join(_left(optimizer.coverage))
    first, last = losses[0], losses[-1]
    return f"| {library} | {name} | {share}{others} | {first:.2f}, {last:.2f} |"


def _left(coverage: Any) -> list[str]:
    """Return the last names of parameters that no layer covers, each once."""
    names = [".".join(x.params[0].split(".")[-2:]) for x in coverage.lines if x.reason]
    return [f"`{name}` is not" for name in dict.fromkeys(names)]


def main(names: list[str]) -> None:
    """Print the table of some models, or of all."""
    used = ("torch", "transformers", "peft", "torch-geometric", "x-transformers")
    print(", ".join(f"{name} {version(name)}" for name in used), "\n")
    print("| library | model | in layers | loss, first and third |\n|---|---|---|---|")
    warnings.simplefilter("ignore")
    for (library, name), make in models().items():
        if not names or name in names:
            print(row(library, name, make), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
