"""Code completion by Qwen-Coder: what follows a prefix."""

import os
from openai import OpenAI

client = OpenAI(
    base_url=os.getenv("DASHSCOPE_BASE_URL", "http://127.0.0.1:8000/compatible-mode/v1"),
    api_key=os.getenv("DASHSCOPE_API_KEY")
)

completion = client.completions.create(
  model="qwen2.5-coder-32b-instruct",
  prompt="<|fim_prefix|>def quick_sort(arr):<|fim_suffix|>",
)

print(completion.choices[0].text)
