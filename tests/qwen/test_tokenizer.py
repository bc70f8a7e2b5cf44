"""The tokenizer against published ranks and other people's code, and its handling of special tokens."""

import json
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.engines.gguf import GgufFile
from ownstudio.qwen.tokenizer import PATTERNS, Tokenizer, VocabularyError

SAMPLES = [
    "",
    "def f(x):\n    return x ** 2  # comment\n\n\n\tif x:\r\n",
    "I'll don't WE'RE it'S 1234567890 3.14",
    "你好，世界！今天是2026年8月13日 日本語 한국어",
    "👩‍👩‍👧‍👦 🎉 e\u0301 \u1100\u1161\u11a8 ﬁ Å",
    "สวัสดีครับ हिन्दी עִבְרִית العربية",
    "\x00\x01\x1b[31m\x7f\u2028\u200b\ufeff\ufffd",
    "   leading and trailing   \n \n  ",
    "<|im_start|>system\n<think>\n</think> <|im_end|> <|not_one|> <|im_end",
    "a" * 500,
    " " * 300,
]


@pytest.mark.parametrize("text", SAMPLES)
def test_the_same_ids_as_published(
    tokenizer: Tokenizer, oracle: tiktoken.Encoding, text: str
) -> None:
    composed = unicodedata.normalize("NFC", text)
    assert tokenizer.encode(text, specials=False) == oracle.encode(composed, disallowed_special=())
    assert tokenizer.encode(text, specials=True) == oracle.encode(composed, allowed_special="all")


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_the_published_ids_and_comes_back(
    tokenizer: Tokenizer, oracle: tiktoken.Encoding, text: str
) -> None:
    composed = unicodedata.normalize("NFC", text)
    ids = tokenizer.encode(text, specials=False)
    assert ids == oracle.encode(composed, disallowed_special=())
    assert tokenizer.decode(ids) == composed
    assert b"".join(map(tokenizer.token_bytes, ids)) == composed.encode()


def test_plain_text_never_is_a_special_token(tokenizer: Tokenizer) -> None:
    special = set(tokenizer.special_ids.values())
    for name, token_id in tokenizer.special_ids.items():
        assert tokenizer.encode(name, specials=True) == [token_id]
        plain = tokenizer.encode(name, specials=False)
        assert special.isdisjoint(plain)
        assert tokenizer.decode(plain) == name == tokenizer.decode([token_id])


def test_what_the_vocabulary_says_of_itself(tokenizer: Tokenizer) -> None:
    assert tokenizer.size == 151_936
    assert tokenizer.special_ids["<|im_end|>"] == 151_645
    assert tokenizer.special_ids["</think>"] == 151_668
    assert {"<|im_end|>", "<|endoftext|>"} <= tokenizer.control
    assert "<think>" not in tokenizer.control
    assert {151_643, 151_645} <= tokenizer.end_ids
    assert tokenizer.role_tokens["eos_token"] == "<|im_end|>"
    assert tokenizer.role_tokens["pad_token"] == "<|endoftext|>"


def test_every_token_has_bytes(tokenizer: Tokenizer, oracle: tiktoken.Encoding) -> None:
    for token_id in range(0, 151_643, 7):
        assert tokenizer.token_bytes(token_id) == oracle.decode_single_token_bytes(token_id)
    assert tokenizer.token_bytes(151_935) == b"[PAD151935]"
    for outside in (-1, 151_936):
        with pytest.raises(IndexError):
            tokenizer.token_bytes(outside)


def test_half_a_character_decodes_to_a_replacement(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🫠", specials=False)
    assert len(ids) > 1
    assert tokenizer.decode(ids[:-1]) == "\ufffd"


@pytest.mark.parametrize("specials", [True, False])
def test_a_lone_surrogate_is_refused(tokenizer: Tokenizer, specials: bool) -> None:
    with pytest.raises(StudioError) as caught:
        tokenizer.encode("a\ud800b", specials=specials)
    assert caught.value.kind is ErrorKind.INVALID_PARAMETER


def test_threads_agree(tokenizer: Tokenizer) -> None:
    text = "".join(SAMPLES) * 3
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: tokenizer.encode(text, specials=True), range(32)))
    assert all(ids == found[0] for ids in found)


def test_combining_marks_stay_with_their_letters_in_the_later_pattern() -> None:
    # The last letter merges with its mark only where the pattern keeps the two together.
    letters = [chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))]
    hidden = [chr(256 + place) for place in range(256 - len(letters))]
    mark = "\u0323".encode()  # spelled in two byte letters
    table = _byte_letters()
    spelled = "".join(table[byte] for byte in mark)
    tokens = [*letters, *hidden, spelled, "q" + spelled]
    merges = [" ".join(spelled), f"q {spelled}"]
    counts = {}
    for pre in PATTERNS:
        vocabulary = _vocabulary(tokens, merges, pre)
        counts[pre] = len(Tokenizer.from_vocabulary(vocabulary).encode("q\u0323", specials=False))
    assert counts == {"qwen2": 2, "qwen35": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pre": "llama-bpe"}, "'llama-bpe'; known are qwen2, qwen35"),
        ({"merges": ("a",)}, "'a' is not two tokens"),
        ({"merges": ("a b c",)}, "'a b c' is not two tokens"),
        ({"merges": ("a z",)}, "merges do not fit"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(VocabularyError, match=words):
        Tokenizer.from_vocabulary(_vocabulary(["a", "b"], [], "qwen2", **change))


def test_a_publishers_folder_gives_the_same_tokenizer(
    tmp_path: Path, weights: GgufFile, tokenizer: Tokenizer
) -> None:
    _write_folder(tmp_path, weights, tokenizer)
    from_files = Tokenizer.from_files(tmp_path)
    for text in SAMPLES:
        for specials in (True, False):
            assert from_files.encode(text, specials=specials) == tokenizer.encode(
                text, specials=specials
            )
    assert from_files.special_ids == tokenizer.special_ids
    assert from_files.control == tokenizer.control
    assert from_files.end_ids == tokenizer.end_ids | {5}
    assert from_files.token_bytes(151_645) == b"<|im_end|>"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "missing"),
        ("{", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("[" * 5000, "not a JSON object"),
        ("{}", "does not describe"),
        ('{"added_tokens": 3}', "does not describe"),
        (
            '{"added_tokens": [], "decoder": {"type": "Metaspace"},'
            ' "model": {"type": "BPE", "vocab": {"a": 0}}}',
            "no byte-level",
        ),
        (
            '{"added_tokens": [], "decoder": {"type": "ByteLevel"},'
            ' "model": {"type": "BPE", "vocab": {"a": 99999999999}}}',
            "out of range",
        ),
        (
            '{"added_tokens": [], "decoder": {"type": "ByteLevel"},'
            ' "model": {"type": "BPE", "vocab": {"a": 0}}}',
            "does not describe",
        ),
    ],
)
def test_a_broken_folder_is_refused(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(VocabularyError, match=words):
        Tokenizer.from_files(tmp_path)


def _vocabulary(
    tokens: list[str], merges: list[str], pre: str, /, **change: object
) -> SimpleNamespace:
    fields = {
        "tokens": tokens,
        "token_types": [1] * len(tokens),
        "merges": merges,
        "pre": pre,
        "named_ids": {},
    }
    return SimpleNamespace(**(fields | change))


def _byte_letters() -> dict[int, str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + place) for place, byte in enumerate(hidden)
    }


def _write_folder(folder: Path, weights: GgufFile, tokenizer: Tokenizer) -> None:
    """What a publisher puts beside safetensors, for the vocabulary of the bundled model."""
    vocabulary = weights.vocabulary
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    description = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": name in tokenizer.control,
            }
            for name, token_id in tokenizer.special_ids.items()
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": PATTERNS["qwen2"]},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {**byte_level, "use_regex": False},
            ],
        },
        "post_processor": {**byte_level, "use_regex": False},
        "decoder": {**byte_level, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: place for place, token in enumerate(vocabulary.tokens[:151_643])},
            "merges": list(vocabulary.merges),
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(description))
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 151645, -3, "x"]}')
