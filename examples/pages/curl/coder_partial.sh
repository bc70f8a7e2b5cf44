#!/bin/sh
# Partial mode: Qwen-Coder goes on from the beginning that the last message gives it.

curl -X POST "${DASHSCOPE_BASE_URL:-http://127.0.0.1:8000/compatible-mode/v1}/chat/completions" \
-H "Authorization: Bearer $DASHSCOPE_API_KEY" \
-H "Content-Type: application/json" \
-d '{
    "model": "qwen3-coder-plus",
    "messages": [{
        "role": "user",
        "content": "Help me write a Python script to generate prime numbers up to 100. Do not output non-code content or Markdown code blocks."
    },
    {
        "role": "assistant",
        "content": "def generate_prime_number",
        "partial": true
    }]
}'
