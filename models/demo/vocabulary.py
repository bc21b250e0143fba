"""The tokens of the demo model: a byte-level BPE in which every word of the grammar is one token.

Any other word falls apart into bytes, so none is unknown. Knows nothing of torch or transformers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The number of every token, and the pairs to merge, oldest first."""

    tokens: dict[str, int]
    merges: tuple[tuple[str, str], ...]


def new_vocabulary(words: Sequence[str]) -> Vocabulary:
    """Merges for whole words in their order; later merges never break an earlier word."""
    symbols = byte_symbols()
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols)]
    merges: list[tuple[str, str]] = []
    for word in words:
        parts = split(word, merges)
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            tokens.append(parts[0] + parts[1])
            parts = split(word, merges)
    numbers = {token: index for index, token in enumerate(dict.fromkeys([*tokens, START, END]))}
    return Vocabulary(numbers, tuple(merges))


def split(word: str, merges: Sequence[tuple[str, str]]) -> list[str]:
    """The tokens of a word under the merges so far, which apply in order of their age."""
    parts = [*word[:-1], f"{word[-1]}</w>"]
    for pair in merges:
        index = 0
        while index < len(parts) - 1:
            if (parts[index], parts[index + 1]) == pair:
                parts[index : index + 2] = ["".join(pair)]
            index += 1
    return parts


def byte_symbols() -> list[str]:
    """The 256 printable characters by which byte-level BPE writes bytes (the GPT-2 convention)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
