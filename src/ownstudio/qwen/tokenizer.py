"""Text to token ids and back, as the publisher of a Qwen model does it.

Owns the special tokens: whether their text in a prompt counts as the token or as plain characters is the
caller's choice at each call, never a property of the text. So plain text is encoded by a tokenizer that has no
special tokens at all, and a pattern of their texts cuts a prompt beforehand where they count.

A tokenizer does not change once it is built, and may be used by several threads at once.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as ByteTokenizer

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import TokenId

# How each generation cuts text before it merges bytes. The later one keeps combining marks with their letter.
PATTERNS = {
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen35": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
# Qwen's tokens that end what a model writes, besides those that its file names. The engine has the same list.
END_TOKENS = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
END_ROLES = ("eos", "eot", "eom")
TEMPLATE_ROLES = {"padding": "pad", "unknown": "unk"}
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
LONG_TEXT = 2048
SHORT_TEXT = 128
SHORT_TEXTS_KEPT = 4096
FILE_BYTES_MAX = 128 * 1024 * 1024


class VocabularyError(Exception):
    """A vocabulary from which no tokenizer can be built; the text says why and is safe to show."""


class VocabularySource(Protocol):
    """What a weights file says of its tokens; `engines.gguf.Vocabulary` is one."""

    @property
    def tokens(self) -> Sequence[str]: ...
    @property
    def token_types(self) -> Sequence[int]: ...
    @property
    def merges(self) -> Sequence[str]: ...
    @property
    def pre(self) -> str: ...
    @property
    def named_ids(self) -> dict[str, int]: ...


class Tokenizer:
    """Built with `from_vocabulary` or `from_files`.

    `special_ids` maps the text of each special token to its id, `control` names those of them that are never
    text; `end_ids` end what a model writes; `role_tokens` are the texts that templates know as `eos_token`
    and the like. `size` is the number of ids, unused ones included, `longest_token` the bytes of the longest.
    """

    def __init__(
        self,
        plain: ByteTokenizer,
        tokens: Sequence[bytes],
        special_ids: dict[str, TokenId],
        control: Iterable[str],
        named_ids: dict[str, TokenId],
        end_ids: Iterable[TokenId],
    ) -> None:
        self._plain = plain
        self._tokens = tokens
        self._special_names = {token_id: name for name, token_id in special_ids.items()}
        self.special_ids = special_ids
        self.control = frozenset(control)
        self.size = len(tokens)
        self.longest_token = max(map(len, tokens), default=0)
        self.end_ids = frozenset(end_ids)
        self.role_tokens = {
            f"{TEMPLATE_ROLES.get(role, role)}_token": tokens[token_id].decode("utf-8", "replace")
            for role, token_id in named_ids.items()
        }
        self._special = one_of(special_ids)
        # System texts and the joints of templates come again with every request.
        self._encode_short = lru_cache(SHORT_TEXTS_KEPT)(self._encode_anew)

    @classmethod
    def from_vocabulary(cls, vocabulary: VocabularySource) -> "Tokenizer":
        """Raises VocabularyError, also for a way of cutting text that is not known here."""
        if vocabulary.pre not in PATTERNS:
            raise VocabularyError(
                f"its way of cutting text is {vocabulary.pre[:40]!a};"
                f" known are {', '.join(PATTERNS)}"
            )
        ids = {
            token: token_id
            for token_id, (token, kind) in enumerate(
                zip(vocabulary.tokens, vocabulary.token_types, strict=True)
            )
            if kind == NORMAL
        }
        special = {
            token: (token_id, kind)
            for token_id, (token, kind) in enumerate(
                zip(vocabulary.tokens, vocabulary.token_types, strict=True)
            )
            if kind in (CONTROL, USER_DEFINED) and token
        }
        merges = [_halves(merge) for merge in vocabulary.merges]
        special_ids = {token: token_id for token, (token_id, _) in special.items()}
        named = {role: i for role, i in vocabulary.named_ids.items() if i < len(vocabulary.tokens)}
        return cls(
            plain=_byte_tokenizer(ids, merges, PATTERNS[vocabulary.pre]),
            tokens=_spelled_out(vocabulary.tokens, special_ids),
            special_ids=special_ids,
            control=[token for token, (_, kind) in special.items() if kind == CONTROL],
            named_ids=named,
            end_ids=_end_ids(special_ids, [named[role] for role in END_ROLES if role in named]),
        )

    @classmethod
    def from_files(cls, folder: Path) -> "Tokenizer":
        """From the `tokenizer.json` (and `generation_config.json`) beside safetensors. Raises VocabularyError."""
        description = _json_file(folder / "tokenizer.json")
        try:
            added = description["added_tokens"]
            special_ids: dict[str, int] = {token["content"]: token["id"] for token in added}
            control = [token["content"] for token in added if token["special"]]
            vocabulary: dict[str, int] = description["model"]["vocab"]
            if (
                description["model"]["type"] != "BPE"
                or description["decoder"]["type"] != "ByteLevel"
            ):
                raise VocabularyError("tokenizer.json describes no byte-level tokenizer")
            spelling = _in_id_order([*vocabulary.items(), *special_ids.items()])
        except (KeyError, TypeError, AttributeError):
            raise VocabularyError("tokenizer.json does not describe a tokenizer") from None
        return cls(
            plain=_without_specials(description),
            tokens=_spelled_out(spelling, special_ids),
            special_ids=special_ids,
            control=control,
            named_ids={},
            end_ids=_end_ids(special_ids, _declared_end_ids(folder, len(spelling))),
        )

    def encode(self, text: str, *, specials: bool) -> list[TokenId]:
        """Token ids of `text`. With `specials` the text of a special token is that token.

        Raises StudioError for text that is not Unicode (a lone surrogate).
        """
        if not specials:
            return list(self._encode_plain(text))
        ids: list[TokenId] = []
        for piece in self.split(text):
            if isinstance(piece, str):
                ids += self._encode_plain(piece)
            else:
                ids.append(piece)
        return ids

    def split(self, text: str) -> list[str | TokenId]:
        """Cut `text` at the special tokens in it: their ids, and the pieces between them that are not empty."""
        pieces: list[str | TokenId] = []
        for place, piece in enumerate(self._special.split(text)):
            if place % 2:
                pieces.append(self.special_ids[piece])
            elif piece:
                pieces.append(piece)
        return pieces

    def decode(self, ids: Iterable[TokenId]) -> str:
        """The text of `ids`, special tokens as their names; U+FFFD where bytes are no character."""
        return b"".join([self._tokens[token_id] for token_id in ids]).decode("utf-8", "replace")

    def token_bytes(self, token_id: TokenId) -> bytes:
        """What one token stands for. Raises IndexError for an id outside the vocabulary."""
        if token_id < 0:
            raise IndexError(token_id)
        return self._tokens[token_id]

    def _encode_plain(self, text: str) -> Sequence[TokenId]:
        return self._encode_short(text) if len(text) <= SHORT_TEXT else self._encode_anew(text)

    def _encode_anew(self, text: str) -> Sequence[TokenId]:
        try:
            if len(text) > LONG_TEXT:
                # For a batch the library lets other threads run; for a single text it never does.
                encoded = self._plain.encode_batch_fast([text], add_special_tokens=False)[0]
            else:
                encoded = self._plain.encode(text, add_special_tokens=False)
            ids: tuple[TokenId, ...] = tuple(encoded.ids)
        except (UnicodeEncodeError, TypeError):
            raise StudioError(
                ErrorKind.INVALID_PARAMETER,
                "The text holds half of a surrogate pair, which is not a character.",
                from_engine=True,
            ) from None
        return ids


def one_of(names: Iterable[str]) -> re.Pattern[str]:
    """A pattern with one group that matches any of `names`, the longest where several fit; of none, nothing."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("(" + ("|".join(map(re.escape, longest_first)) or r"(?!)") + ")")


def _without_specials(description: dict[str, Any]) -> ByteTokenizer:
    """The publisher's own description, less its special tokens: a tokenizer for plain text."""
    plain = {**description, "added_tokens": [], "post_processor": None}
    try:
        return ByteTokenizer.from_str(msgspec.json.encode(plain).decode())
    except Exception as error:  # the library raises nothing more special
        raise VocabularyError("tokenizer.json does not describe a tokenizer") from error


def _in_id_order(ids: list[tuple[str, int]]) -> list[str]:
    size = 1 + max(token_id for _, token_id in ids)
    # Ids may have gaps, but a file of a few tokens cannot ask for a list of billions.
    if size > 2 * len(ids) or min(token_id for _, token_id in ids) < 0:
        raise VocabularyError("tokenizer.json has token ids out of range")
    spelling = [""] * size
    for token, token_id in ids:
        spelling[token_id] = token
    return spelling


def _byte_tokenizer(
    ids: dict[str, int], merges: list[tuple[str, str]], pattern: str
) -> ByteTokenizer:
    try:
        plain = ByteTokenizer(models.BPE(vocab=ids, merges=merges))
    except Exception as error:  # the library raises nothing more special
        raise VocabularyError("its merges do not fit its tokens") from error
    plain.normalizer = normalizers.NFC()
    plain.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    plain.decoder = decoders.ByteLevel()
    return plain


def _halves(merge: str) -> tuple[str, str]:
    left, space, right = merge.partition(" ")
    if not (left and space and right) or " " in right:
        raise VocabularyError(f"its merge {merge[:40]!a} is not two tokens")
    return left, right


def _byte_of_letter() -> dict[str, int]:
    """Byte-level tokens are spelled in printable letters, one for each byte; this gives the byte back."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def _spelled_out(tokens: Sequence[str], special_ids: dict[str, TokenId]) -> list[bytes]:
    """The bytes of every token: special ones are their own text, all others are spelled in byte letters."""
    table = {ord(letter): byte for letter, byte in _byte_of_letter().items()}
    spelled: list[bytes] = []
    for token in tokens:
        try:
            spelled.append(token.translate(table).encode("latin-1"))
        except UnicodeEncodeError:
            spelled.append(token.encode())
    for token, token_id in special_ids.items():
        spelled[token_id] = token.encode()
    return spelled


def _end_ids(special_ids: dict[str, TokenId], declared: Iterable[TokenId]) -> set[TokenId]:
    return {special_ids[name] for name in END_TOKENS if name in special_ids} | set(declared)


def _declared_end_ids(folder: Path, size: int) -> list[TokenId]:
    path = folder / "generation_config.json"
    declared = _json_file(path).get("eos_token_id") if path.exists() else None
    listed = declared if isinstance(declared, list) else [declared]
    return [token_id for token_id in listed if type(token_id) is int and 0 <= token_id < size]


def _json_file(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise VocabularyError(f"{path.name} is longer than {FILE_BYTES_MAX} bytes")
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError:
        raise VocabularyError(f"{path.name} is missing or cannot be read") from None
    except (msgspec.DecodeError, RecursionError):
        raise VocabularyError(f"{path.name} is not a JSON object") from None
