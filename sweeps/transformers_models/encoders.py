"""Text encoders."""

from __future__ import annotations

from sweeps.transformers_models.architecture import architecture, ids, text
from sweeps.transformers_models.common import SPECIAL, TEXT, Options

_DISTILLED: Options = {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}

ENCODERS = (
    architecture("bert", text, **TEXT),
    architecture("roberta", text, **TEXT),
    architecture("xlm-roberta", text, **TEXT),
    architecture("camembert", text, **TEXT),
    architecture("distilbert", text, **_DISTILLED, vocab_size=128, max_position_embeddings=64),
    architecture("albert", text, **TEXT, embedding_size=32),
    architecture("electra", text, **TEXT, embedding_size=32),
    architecture("deberta", text, **TEXT),
    architecture(
        "deberta-v2",
        text,
        **TEXT,
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
    ),
    architecture("mpnet", text, **TEXT),
    architecture("convbert", text, **TEXT, embedding_size=64),
    architecture("squeezebert", text, "AutoModelForMaskedLM", **TEXT, embedding_size=64),
    architecture("roformer", text, **TEXT, embedding_size=64),
    architecture("rembert", text, **TEXT, input_embedding_size=32, output_embedding_size=32),
    architecture("mobilebert", text, **TEXT, embedding_size=32, intra_bottleneck_size=32),
    architecture("ernie", text, **TEXT),
    architecture("esm", text, **TEXT),
    architecture("nystromformer", text, **TEXT, num_landmarks=4, segment_means_seq_len=12),
    architecture("fnet", ids, **TEXT),
    architecture("modernbert", text, **TEXT, local_attention=8, cls_token_id=1, sep_token_id=2),
    architecture("longformer", text, **TEXT, attention_window=4),
    architecture(
        "funnel",
        text,
        "AutoModelForMaskedLM",
        **SPECIAL,
        vocab_size=128,
        block_sizes=[1, 1],
        num_decoder_layers=1,
        d_model=64,
        n_head=4,
        d_head=16,
        d_inner=128,
    ),
    architecture("xlnet", text, vocab_size=128, d_model=64, n_layer=2, n_head=4, d_inner=128),
    architecture("layoutlm", text, **TEXT, max_2d_position_embeddings=64),
    architecture("data2vec-text", text, **TEXT),
)
