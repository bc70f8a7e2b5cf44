"""Partial mode over the native DashScope API: the model goes on from the beginning that the last message gives it."""

from http import HTTPStatus
import dashscope
import os

dashscope.base_http_api_url = os.getenv("DASHSCOPE_HTTP_BASE_URL", "http://127.0.0.1:8000/api/v1")

messages = [{
    "role": "user",
    "content": "Help me write a Python script to generate prime numbers up to 100. Do not output non-code content or Markdown code blocks."
},
{
    "role": "assistant",
    "content": "def generate_prime_number",
    "partial": True
}]

response = dashscope.Generation.call(
    # The key that `ownstudio key create` prints; the first start writes one to the data directory.
    api_key=os.getenv('DASHSCOPE_API_KEY'),
    model='qwen3-coder-plus',
    messages=messages,
    result_format='message',
)

if response.status_code == HTTPStatus.OK:
    print(response.output.choices[0].message.content)
else:
    print(f"HTTP status code: {response.status_code}")
    print(f"Error code: {response.code}")
    print(f"Error message: {response.message}")
