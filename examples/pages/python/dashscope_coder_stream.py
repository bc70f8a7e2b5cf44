"""The same, streamed: each event holds what is new, and the last one ends with the usage."""

import os
from http import HTTPStatus
import dashscope
from dashscope import Generation

dashscope.base_http_api_url = os.getenv("DASHSCOPE_HTTP_BASE_URL", "http://127.0.0.1:8000/api/v1")

messages = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Write a Python function named find_prime_numbers that accepts an integer n as a parameter and returns a list of all prime numbers less than n. Do not output any content other than the code and do not use Markdown code blocks."},
]

responses = Generation.call(
    # The key that `ownstudio key create` prints; the first start writes one to the data directory.
    api_key=os.getenv('DASHSCOPE_API_KEY'),
    model="qwen3-coder-plus",
    messages=messages,
    result_format="message",
    stream=True,
    # Without this line each event repeats everything so far.
    incremental_output=True,
)

content_parts = []
print("="*20+"Response"+"="*20+"\n", end="", flush=True)

for resp in responses:
    if resp.status_code == HTTPStatus.OK:
        content = resp.output.choices[0].message.content
        print(content, end="", flush=True)
        content_parts.append(content)

        # The page waits for "stop" alone; an answer that is cut ends with "length".
        if resp.output.choices[0].finish_reason != "null":
            print("\n"+"=" * 20 + "Token Usage" + "=" * 20)
            print(f"Input Tokens: {resp.usage.input_tokens}")
            print(f"Output Tokens: {resp.usage.output_tokens}")
            print(f"Total Tokens: {resp.usage.total_tokens}")
    else:
        print(f"HTTP status code: {resp.status_code}")
        print(f"Error code: {resp.code}")
        print(f"Error message: {resp.message}")
