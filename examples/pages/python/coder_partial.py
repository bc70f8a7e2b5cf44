"""Partial mode: Qwen-Coder goes on from the beginning that the last message gives it."""

import os
from openai import OpenAI

client = OpenAI(
    # The key that `ownstudio key create` prints; the first start writes one to the data directory.
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url=os.getenv("DASHSCOPE_BASE_URL", "http://127.0.0.1:8000/compatible-mode/v1"),
)

completion = client.chat.completions.create(
    model="qwen3-coder-plus",
    messages=[{
        "role": "user",
        "content": "Help me write a Python script to generate prime numbers up to 100. Do not output non-code content or Markdown code blocks."
    },
    {
        "role": "assistant",
        "content": "def generate_prime_number",
        "partial": True
    }]
)
print(completion.choices[0].message.content)
