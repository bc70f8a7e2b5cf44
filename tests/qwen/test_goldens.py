"""Token counts that the real service recorded, for the prompts and answers of its public documentation.

The counts belong to the Chinese originals. The English ones stand beside them, computed from the published
vocabulary, so that a change that only one script notices is noticed.
"""

import pytest

from ownstudio.core.request import ChatPrompt, Message, TextPrompt
from ownstudio.qwen.render import PromptRenderer
from ownstudio.qwen.tokenizer import Tokenizer

HELPFUL = Message("system", "You are a helpful assistant.")
PRIMES = (
    "请编写一个Python函数 find_prime_numbers，该函数接受一个整数 n 作为参数，"
    "并返回一个包含所有小于 n 的质数（素数）的列表。"
)
PRIMES_ENGLISH = (
    "Write a Python function named find_prime_numbers that accepts an integer n as a parameter and"
    " returns a list of all prime numbers less than n. Do not output any content other than the code"
    " and do not use Markdown code blocks."
)
HUNDRED_ENGLISH = (
    "Help me write a Python script to generate prime numbers up to 100. Do not output non-code"
    " content or Markdown code blocks."
)
BEGUN = Message("assistant", "def generate_prime_number", partial=True)

PROMPTS = [
    ((HELPFUL, Message("user", "你是谁？")), 22),
    ((HELPFUL, Message("user", "Who are you?")), 23),
    ((Message("user", "你是谁？"),), 11),
    ((Message("user", "Who are you?"),), 12),
    (
        (
            HELPFUL,
            Message("user", PRIMES + "不要输出非代码的内容和Markdown的代码块。"),
        ),
        66,
    ),
    (
        (
            HELPFUL,
            Message(
                "user",
                PRIMES
                + "质数是指仅能被1和其自身整除的正整数，如2, 3, 5, 7等。"
                + "不要输出非代码的内容和Markdown的代码块。",
            ),
        ),
        96,
    ),
    ((HELPFUL, Message("user", PRIMES_ENGLISH)), 64),
    (
        (
            Message(
                "user",
                "请帮我写一个python代码生成100以内的素数。不要输出非代码的内容和Markdown的代码块。",
            ),
            BEGUN,
        ),
        38,
    ),
    ((Message("user", HUNDRED_ENGLISH), BEGUN), 40),
    ((Message("user", "你好呀!"),), 11),
    ((Message("user", "Hello!"),), 10),
    ((Message("user", "你好"),), 9),
]


@pytest.mark.parametrize(("messages", "count"), PROMPTS)
def test_a_prompt_has_as_many_tokens_as_the_service_counted(
    chatml: PromptRenderer, messages: tuple[Message, ...], count: int
) -> None:
    assert len(chatml.render_chat(ChatPrompt(messages)).token_ids) == count


@pytest.mark.parametrize(("messages", "count"), PROMPTS)
def test_the_bundled_template_adds_nothing(
    bundled: PromptRenderer, messages: tuple[Message, ...], count: int
) -> None:
    assert len(bundled.render_chat(ChatPrompt(messages)).token_ids) == count


def test_a_raw_fill_in_the_middle_prompt(chatml: PromptRenderer) -> None:
    text = "<|fim_prefix|>def quick_sort(arr):<|fim_suffix|>"
    # Seven, and the `<|fim_middle|>` that the prompt lacks.
    assert len(chatml.render_text(TextPrompt(text))) == 8


SEARCH = (
    "        is_prime = True\n"
    "        for i in range(2, int(num ** 0.5) + 1):\n"
    "            if num % i == 0:\n"
    "                is_prime = False\n"
    "                break\n"
    "        if is_prime:\n"
    "            primes.append(num)\n"
)
FIND = "def find_prime_numbers(n):\n    if n <= 2:\n        return []\n    \n    primes = []\n"
FIND_LOOP = "    for num in range(2, n):\n" + SEARCH + "    \n    return primes"
PRINTED = "\nprime_numbers = generate_prime_number(100)\nprint(prime_numbers)"
QUICK_SORT = (
    r"def quick_sort(arr):\n    if len(arr) <= 1:\n        return arr\n"
    r"    pivot = arr[len(arr) // 2]\n    left = [x for x in arr if x < pivot]\n"
    r"    middle = [x for x in arr if x == pivot]\n    right = [x for x in arr if x > pivot]\n"
    r"    return quick_sort(left) + middle + quick_sort(right)\n\n"
    r"if __name__ == \"__main__\":\n    example_list = [3, 6, 8, 10, 1, 2, 1]\n"
    r"    print(\"Original list:\", example_list)\n    sorted_list = quick_sort(example_list)\n"
    r"    print(\"Sorted list:\", sorted_list)"
)
ANSWERS = {
    "streamed": (FIND + FIND_LOOP, 89),
    "collected": (FIND + "    \n" + FIND_LOOP, 90),
    "continued, native": (
        "(n):\n    prime_list = []\n    for i in range(2, n+1):\n        is_prime = True\n"
        "        for j in range(2, int(i**0.5)+1):\n            if i % j == 0:\n"
        "                is_prime = False\n                break\n        if is_prime:\n"
        "            prime_list.append(i)\n    return prime_list\n" + PRINTED,
        92,
    ),
    "continued": (
        "(n):\n    primes = []\n    for num in range(2, n + 1):\n"
        + SEARCH
        + "    return primes\n"
        + PRINTED,
        93,
    ),
    "a tool call with its markup": (
        "<tool_call>\n<function=write_file>\n<parameter=content>\n"
        + QUICK_SORT
        + "\n</parameter>\n<parameter=path>\nquick_sort.py\n</parameter>\n</function>\n</tool_call>",
        193,
    ),
    "an introduction": ("我是来自阿里云的大规模语言模型，我叫通义千问。", 16),
}


@pytest.mark.parametrize(("text", "count"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_has_as_many_tokens_as_the_service_counted(
    tokenizer: Tokenizer, text: str, count: int
) -> None:
    assert len(tokenizer.encode(text, specials=True)) == count
