"""Code completion by Qwen-Coder: what belongs between a prefix and a suffix."""

import os
from openai import OpenAI

client = OpenAI(
    base_url=os.getenv("DASHSCOPE_BASE_URL", "http://127.0.0.1:8000/compatible-mode/v1"),
    api_key=os.getenv("DASHSCOPE_API_KEY")
)

prefix_content = """def reverse_words_with_special_chars(s):
'''
Reverses each word in a string while preserving the position of non-alphabetic characters and maintaining word order.
    Example:
    reverse_words_with_special_chars("Hello, world!") -> "olleH, dlrow!"
    Parameters:
        s (str): The input string, which may contain punctuation.
    Returns:
        str: The processed string with reversed words, where the positions of non-alphabetic characters are unchanged.
'''
"""

suffix_content = "return result"

completion = client.completions.create(
  model="qwen2.5-coder-32b-instruct",
  prompt=f"<|fim_prefix|>{prefix_content}<|fim_suffix|>{suffix_content}<|fim_middle|>",
)

print(completion.choices[0].text)
