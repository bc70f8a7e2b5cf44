"""Prompts as token ids: what a client writes stays text, partial turns stay open, raw prompts are checked."""

import json
from bisect import bisect_right
from itertools import accumulate
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.request import ChatPrompt, Message, TextPrompt, ToolCall
from ownstudio.qwen.plain_text import MARK
from ownstudio.qwen.render import PromptRenderer
from ownstudio.qwen.template import ChatTemplate
from ownstudio.qwen.tokenizer import Tokenizer

IM_START, IM_END = 151_644, 151_645
HISTORY = """\
{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\\n' }}
    {%- if m.reasoning_content %}{{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}
    {{- m.content | trim }}
    {%- for call in m.tool_calls or [] %}
        {{- '\\n<tool_call>\\n<function=' + call.function.name + '>' }}
        {%- for key, value in call.function.arguments.items() %}
            {{- '\\n<' ~ key ~ '>' ~ (value if value is string else value | tojson) }}
        {%- endfor %}
        {{- '\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' }}
{%- if not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
"""
CHATML_TRIMMED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content | trim + '<|im_end|>' }}"
    "{% endfor %}"
)
PIECES = (
    *("<|im_end|>", "<|im_start|>", "<think>", "</tool_call>", "<|fim_prefix|>"),
    *(MARK, "<", ">", "|im_end|", "a", " ", "\n", "你"),
)
LOOKALIKES = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
NO_OBJECTS = ["[1]", "{", '"text"', "NaN", '{"a": NaN}', "[" * 9999, '{"a":' * 99 + "1" + "}" * 99]


@pytest.fixture(scope="module")
def history(tokenizer: Tokenizer) -> PromptRenderer:
    return PromptRenderer(ChatTemplate(HISTORY), tokenizer)


def refusal(renderer: PromptRenderer, prompt: ChatPrompt | TextPrompt) -> StudioError:
    with pytest.raises(StudioError) as caught:
        _ = (
            renderer.render_chat(prompt)
            if isinstance(prompt, ChatPrompt)
            else renderer.render_text(prompt)
        )
    return caught.value


@settings(deadline=None)
@given(LOOKALIKES, st.sampled_from(["system", "user", "tool"]))
def test_no_content_becomes_a_special_token(
    chatml: PromptRenderer, tokenizer: Tokenizer, content: str, role: str
) -> None:
    ids = chatml.render_chat(ChatPrompt((Message(role, content),))).token_ids  # type: ignore[arg-type]
    assert [i for i in ids if i in tokenizer.special_ids.values()] == [IM_START, IM_END, IM_START]
    text = f"<|im_start|>{role}\n{content}<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(ids) == text


def test_tags_of_an_assistant_keep_their_meaning_but_control_tokens_do_not(
    chatml: PromptRenderer, tokenizer: Tokenizer
) -> None:
    said = Message("assistant", "<think>\nhm <|im_end|></think><tool_call><|fim_middle|>")
    ids = chatml.render_chat(
        ChatPrompt((Message("user", "hi"), said, Message("user", "?")))
    ).token_ids
    special = [i for i in ids if i in tokenizer.special_ids.values()]
    tags = [tokenizer.special_ids[name] for name in ("<think>", "</think>", "<tool_call>")]
    turn = [IM_START, IM_END]
    assert special == [*turn, IM_START, *tags, IM_END, *turn, IM_START]


def test_names_and_arguments_are_text_too(history: PromptRenderer, tokenizer: Tokenizer) -> None:
    call = ToolCall("<|im_start|>", json.dumps({"|im_end|": "<|im_end|>", "n": {"think": [1.5]}}))
    messages = (
        Message("user", "hi"),
        Message("assistant", "", tool_calls=(call,), reasoning="because </think>"),
        Message("tool", "done<|im_end|>", tool_call_id="<|im_end|>", name="<|im_end|>"),
    )
    ids = history.render_chat(ChatPrompt(messages, enable_thinking=True)).token_ids
    text = tokenizer.decode(ids)
    assert "<function=<|im_start|>>\n<|im_end|><|im_end|>\n<n>" in text
    assert '{"think": [1.5]}' in text
    assert ids.count(IM_START) == 4
    assert ids.count(IM_END) == 3


@pytest.mark.parametrize("arguments", NO_OBJECTS)
def test_arguments_must_be_an_object(history: PromptRenderer, arguments: str) -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("f", arguments),))
    error = refusal(history, ChatPrompt((call, Message("user", "?"))))
    assert (error.kind, error.param) == (ErrorKind.INVALID_PARAMETER, "messages")
    assert "messages[0].tool_calls[0].function.arguments" in error.message


def test_no_arguments_at_all_are_none(history: PromptRenderer) -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("f", ""),))
    assert history.render_chat(ChatPrompt((call, Message("user", "?"))))


def test_a_partial_turn_stays_open(history: PromptRenderer, tokenizer: Tokenizer) -> None:
    begun = "def f():\n    "
    messages = (Message("user", "write"), Message("assistant", begun, partial=True))
    for thinking, opening in ((True, ""), (False, "<think>\n\n</think>\n\n")):
        ids = history.render_chat(ChatPrompt(messages, enable_thinking=thinking)).token_ids
        assert tokenizer.decode(ids) == (
            f"<|im_start|>user\nwrite<|im_end|>\n<|im_start|>assistant\n{opening}{begun}"
        )


@pytest.mark.parametrize("thinking", [True, False])
def test_a_partial_turn_with_its_reasoning(
    history: PromptRenderer, tokenizer: Tokenizer, thinking: bool
) -> None:
    begun = Message("assistant", "yes", reasoning="hm", partial=True)
    ids = history.render_chat(
        ChatPrompt((Message("user", "?"), begun), enable_thinking=thinking)
    ).token_ids
    assert tokenizer.decode(ids).endswith("assistant\n<think>\nhm\n</think>\n\nyes")


def test_a_partial_turn_where_the_model_must_think_first(tokenizer: Tokenizer) -> None:
    renderer = PromptRenderer(ChatTemplate("{{ '<|im_start|>assistant\n<think>\n' }}"), tokenizer)
    begun = Message("assistant", "yes", partial=True)
    ids = renderer.render_chat(ChatPrompt((Message("user", "?"), begun))).token_ids
    assert tokenizer.decode(ids).endswith("<think>\n\n</think>\n\nyes")


def test_a_partial_turn_is_an_answer_without_calls(history: PromptRenderer) -> None:
    for last in (
        Message("user", "x", partial=True),
        Message("assistant", "x", tool_calls=(ToolCall("f", "{}"),), partial=True),
    ):
        assert refusal(history, ChatPrompt((Message("user", "?"), last))).param == "messages"


def test_whose_fault_a_failed_render_is(tokenizer: Tokenizer) -> None:
    prompt = ChatPrompt((Message("user", "<|im_end|>"),))
    strict = ChatTemplate("{{ raise_exception('Not ' + messages[0].content) }}")
    error = refusal(PromptRenderer(strict, tokenizer), prompt)
    assert (error.kind, error.param) == (ErrorKind.INVALID_PARAMETER, "messages")
    assert error.message == "Not <|im_end|>"
    broken = ChatTemplate("{{ messages[0].content.nothing.at.all }}")
    error = refusal(PromptRenderer(broken, tokenizer), prompt)
    assert error.kind is ErrorKind.INTERNAL
    assert "UndefinedError" in error.detail
    assert "UndefinedError" not in error.message


TRIMMING = """\
{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\\n' + m.content.strip('\\n') | trim + '<|im_end|>\\n' }}
{%- endfor %}
"""
# It looks closely at what it shows: at how contents begin and end, how long they are, and at old thoughts.
PEERING = """\
{%- for m in messages %}
    {%- if m.content.startswith('a') or m.content.endswith('你') or m.content | length > 30 %}{{- '!' }}{% endif %}
    {{- '<|im_start|>' + m.role + '\\n' + m.content.split('</think>')[-1].lstrip('\\n') }}
    {{- m.content[:2] + m.content | upper + '<|im_end|>' }}
{%- endfor %}
"""
WORDS = st.lists(
    st.sampled_from([*PIECES, "def f():", "\u0301", "e", " wörd", "好的。"]), max_size=4
)
CONTENTS = st.lists(WORDS.map("".join), min_size=1, max_size=4)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), CONTENTS), min_size=1
    ),
    st.sampled_from(["chatml", "bundled", "history", TRIMMING, PEERING]),
    st.booleans(),
)
def test_following_places_never_changes_the_prompt_and_counts_whole_tokens(
    request: pytest.FixtureRequest,
    tokenizer: Tokenizer,
    turns: list[tuple[str, list[str]]],
    template: str,
    partial: bool,
) -> None:
    renderer = (
        request.getfixturevalue(template)
        if template in ("chatml", "bundled", "history")
        else PromptRenderer(ChatTemplate(template), tokenizer)
    )
    messages = [Message(role, "".join(texts)) for role, texts in turns]  # type: ignore[arg-type]
    if partial:
        messages.append(Message("assistant", "so far", partial=True))
    prompt = ChatPrompt(tuple(messages))
    places = [
        (place, end)
        for place, (_, texts) in enumerate(turns)
        for end in accumulate(map(len, texts))
    ]
    rendered = renderer.render_chat(prompt, places)
    assert rendered.token_ids == renderer.render_chat(prompt).token_ids
    assert len(rendered.ends) == len(places)
    if template != "chatml":
        return
    ends = list(accumulate(len(tokenizer.token_bytes(token)) for token in rendered.token_ids))
    for (place, end), found in zip(places, rendered.ends, strict=True):
        content = messages[place].content
        assert (found is None) == (not content[:end].strip())
        if found is not None:
            head = "".join(
                f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n"
                for message in messages[:place]
            )
            head += f"<|im_start|>{messages[place].role}\n"
            # The spaces at the end of a content count or not, as the template may have trimmed them.
            lengths = {
                len(normalize("NFC", head + before).encode())
                for before in (content[:end], content[: min(end, len(content.rstrip()))])
            }
            assert found.tokens in {bisect_right(ends, length) for length in lengths}


def test_the_tokens_before_a_place_are_those_that_end_there_or_earlier(
    chatml: PromptRenderer, tokenizer: Tokenizer
) -> None:
    content = "Hello wörld 你好 <|im_end|> e\u0301t\u0301e \n\n x 12345"
    prompt = ChatPrompt((Message("user", content),))
    rendered = chatml.render_chat(prompt, [(0, end) for end in range(1, len(content) + 1)])
    spelled = [len(tokenizer.token_bytes(token)) for token in rendered.token_ids]
    ends = list(accumulate(spelled))
    head = "<|im_start|>user\n"
    for end, found in enumerate(rendered.ends, 1):
        assert found is not None
        length = len(normalize("NFC", head + content[:end]).encode())
        assert found.tokens == bisect_right(ends, length), content[:end]


def test_a_place_that_the_template_drops_has_no_end(tokenizer: Tokenizer) -> None:
    renderer = PromptRenderer(
        ChatTemplate(PEERING.replace("m.content[:2] + m.content | upper + ", "")), tokenizer
    )
    thought = "<think>old</think>new words of an answer"
    prompt = ChatPrompt((Message("user", "?"), Message("assistant", thought), Message("user", "?")))
    ends = renderer.render_chat(prompt, [(1, 9), (1, len(thought))]).ends
    assert ends[0] is None
    assert ends[1] is not None


def test_where_a_template_looks_too_closely_no_place_is_told(tokenizer: Tokenizer) -> None:
    renderer = PromptRenderer(ChatTemplate(PEERING), tokenizer)
    prompt = ChatPrompt((Message("user", "bcd你"),))
    rendered = renderer.render_chat(prompt, [(0, 4)])
    assert rendered.ends == (None,)
    assert tokenizer.decode(rendered.token_ids).startswith("!<|im_start|>user")


def test_a_digest_is_that_of_the_text_whatever_follows_it(tokenizer: Tokenizer) -> None:
    for template in (CHATML_TRIMMED, CHATML_TRIMMED.replace(" | trim", "")):
        renderer = PromptRenderer(ChatTemplate(template), tokenizer)
        digests = set()
        for content in ("a b.\n", "a b.\n\nc", "a b.\n c", "a b.\n<|im_end|>"):
            prompt = ChatPrompt((Message("user", content),))
            (end,) = renderer.render_chat(prompt, [(0, 5)]).ends
            assert end is not None
            digests.add(end.digest)
        assert len(digests) == 1
        for content in ("a b!\n", "ab.\n", "<|im_end|>"):
            (end,) = renderer.render_chat(ChatPrompt((Message("user", content),)), [(0, 5)]).ends
            assert end is not None
            assert end.digest not in digests


def test_special_tokens_count_in_raw_text(chatml: PromptRenderer, tokenizer: Tokenizer) -> None:
    text = "<|im_start|>user\nhi<|im_end|>\n"
    assert chatml.render_text(TextPrompt(text)) == tokenizer.encode(text, specials=True)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (TextPrompt("<|fim_prefix|>a<|fim_suffix|>"), "<|fim_prefix|>a<|fim_suffix|><|fim_middle|>"),
        (TextPrompt("<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"), "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"),
        (TextPrompt("a", "b"), "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"),
        (TextPrompt((64,), ""), "<|fim_prefix|>a<|fim_suffix|><|fim_middle|>"),
        (TextPrompt((64, 151_643)), "a<|endoftext|>"),
        (TextPrompt("<|fim_prefix|>a"), "<|fim_prefix|>a"),
    ],
)  # fmt: skip
def test_raw_prompts(
    chatml: PromptRenderer, tokenizer: Tokenizer, prompt: TextPrompt, text: str
) -> None:
    assert tokenizer.decode(chatml.render_text(prompt)) == text


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (TextPrompt("a<|fim_suffix|>b"), "prompt"),
        (TextPrompt("<|fim_prefix|>a", "b"), "prompt"),
        (TextPrompt("a", "b<|fim_middle|>"), "suffix"),
        (TextPrompt(""), "prompt"),
        (TextPrompt(()), "prompt"),
        (TextPrompt((0, 151_936)), "prompt"),
        (TextPrompt((-1,)), "prompt"),
        (TextPrompt((True,)), "prompt"),
        (TextPrompt("\ud800"), "prompt"),
        (TextPrompt("a", "\udfff"), "suffix"),
        (ChatPrompt((Message("user", "\ud83d"),)), "messages"),
    ],
)
def test_refused_prompts(
    chatml: PromptRenderer, prompt: ChatPrompt | TextPrompt, param: str
) -> None:
    error = refusal(chatml, prompt)
    assert (error.kind, error.param) == (ErrorKind.INVALID_PARAMETER, param)
