"""Qwen-Coder: ask for a function and print it."""

import os
from openai import OpenAI

client = OpenAI(
    # The key that `ownstudio key create` prints; the first start writes one to the data directory.
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url=os.getenv("DASHSCOPE_BASE_URL", "http://127.0.0.1:8000/compatible-mode/v1"),
)
completion = client.chat.completions.create(
    # Any name that a deployment answers; GET /models lists them.
    model="qwen3-coder-plus",
    messages=[
        {'role': 'system', 'content': 'You are a helpful assistant.'},
        {'role': 'user', 'content': 'Write a Python function named find_prime_numbers that accepts an integer n as a parameter and returns a list of all prime numbers less than n. Do not output any content other than the code and do not use Markdown code blocks.'}],
)
print(completion.choices[0].message.content)
