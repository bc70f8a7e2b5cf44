"""Qwen-Coder, streamed: print the function as it is written, then what it took."""

import os
from openai import OpenAI

client = OpenAI(
    # The key that `ownstudio key create` prints; the first start writes one to the data directory.
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url=os.getenv("DASHSCOPE_BASE_URL", "http://127.0.0.1:8000/compatible-mode/v1"),
)
completion = client.chat.completions.create(
    model="qwen3-coder-plus",
    messages=[
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Write a Python function named find_prime_numbers that accepts an integer n as a parameter and returns a list of all prime numbers less than n. Do not output any content other than the code and do not use Markdown code blocks."}
    ],
    stream=True,
    # One more chunk at the end holds the token counts.
    stream_options={"include_usage": True}
)

content_parts = []
print("="*20+"Response"+"="*20)
for chunk in completion:
    # The chunk with the usage has no choices.
    if chunk.choices:
        # A delta may come without content.
        content = chunk.choices[0].delta.content or ""
        print(content, end="", flush=True)
        content_parts.append(content)
    elif chunk.usage:
        print("\n"+"="*20+"Token Usage"+"="*20)
        print(f"Input Tokens: {chunk.usage.prompt_tokens}")
        print(f"Output Tokens: {chunk.usage.completion_tokens}")
        print(f"Total Tokens: {chunk.usage.total_tokens}")

full_response = "".join(content_parts)
# The whole answer in one piece:
# print(f"\n--- Full Response ---\n{full_response}")
