"""Qwen-Coder writes a function, over the native DashScope API."""

import dashscope
import os

dashscope.base_http_api_url = os.getenv("DASHSCOPE_HTTP_BASE_URL", "http://127.0.0.1:8000/api/v1")

messages = [
    {
        "role": "system",
        "content": "You are a helpful assistant."
    },
    {
        "role": "user",
        "content": "Write a Python function named find_prime_numbers that accepts an integer n as a parameter and returns a list of all prime numbers less than n. Do not output any content other than the code and do not use Markdown code blocks."
    }
]

response = dashscope.Generation.call(
    # The key that `ownstudio key create` prints; the first start writes one to the data directory.
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    model="qwen3-coder-plus",
    messages=messages,
    result_format="message"
)

if response.status_code == 200:
    print(response.output.choices[0].message.content)
else:
    print(f"HTTP status code: {response.status_code}")
    print(f"Error code: {response.code}")
    print(f"Error message: {response.message}")
