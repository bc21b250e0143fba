"""The text half of the demo model: a CLIP tokenizer over its vocabulary and a small encoder."""

from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.demo.captions import words
from models.demo.vocabulary import END, START, new_vocabulary

POSITIONS = 32  # tokens per prompt; longer ones are cut
WIDTH = 128


def new_tokenizer() -> CLIPTokenizer:
    vocabulary = new_vocabulary(words())
    merges: Any = list(vocabulary.merges)  # taken as pairs, declared as strings
    return CLIPTokenizer(vocab=vocabulary.tokens, merges=merges, model_max_length=POSITIONS)


def new_text_encoder(tokenizer: CLIPTokenizer, seed: int) -> CLIPTextModel:
    torch.manual_seed(seed)
    return CLIPTextModel(clip_config(tokenizer, width=WIDTH, layers=2))


def clip_config(tokenizer: CLIPTokenizer, width: int, layers: int) -> CLIPTextConfig:
    vocabulary = tokenizer.get_vocab()
    return CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[END],
    )
