"""Attention written out, for training: the same numbers as diffusers' own, and quicker.

On a processor that multiplies bfloat16 matrices in hardware, the fused kernel's way back takes as
long as all matrices of the network together; plain products compile to a fraction of it.
"""

from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor


class PlainAttention:
    """A processor for the attention of diffusers' UNets, without masks, norms and residuals."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
    ) -> Tensor:
        told = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            layer(states).unflatten(-1, (attn.heads, -1))
            for layer, states in (
                (attn.to_q, hidden_states),
                (attn.to_k, told),
                (attn.to_v, told),
            )
        )
        return attn.to_out[0](attended(query, key, value))


class PlainFluxAttention:
    """A processor for diffusers' FluxAttention, of either kind of block."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
        image_rotary_emb: Any = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        query, key, value = (
            heads(layer(hidden_states), attn.head_dim)
            for layer in (attn.to_q, attn.to_k, attn.to_v)
        )
        query, key = attn.norm_q(query.float()), attn.norm_k(key.float())
        told = 0  # tokens of text, which come first
        if encoder_hidden_states is not None:
            told = encoder_hidden_states.shape[1]
            first, second, third = (
                heads(layer(encoder_hidden_states), attn.head_dim)
                for layer in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
            )
            query = torch.cat([attn.norm_added_q(first.float()), query], dim=1)
            key = torch.cat([attn.norm_added_k(second.float()), key], dim=1)
            value = torch.cat([third, value], dim=1)
        output = attended(placed(query, image_rotary_emb), placed(key, image_rotary_emb), value)
        if encoder_hidden_states is None:
            return output
        return attn.to_out[0](output[:, told:]), attn.to_add_out(output[:, :told])


def heads(states: Tensor, width: int) -> Tensor:
    return states.unflatten(-1, (-1, width))


def placed(states: Tensor, angles: Any) -> Tensor:
    """Turned by where their tokens are."""
    turned: Any = apply_rotary_emb(states, angles, sequence_dim=1)
    return turned


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The values by attention, heads side by side: (n, tokens, heads x width)."""
    query, key, value = (one.transpose(1, 2) for one in (query, key, value))
    weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return (weights.softmax(-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)
