#!/bin/sh
# Partial mode over the native DashScope API: the model goes on from the beginning that the last message gives it.

curl -X POST "${DASHSCOPE_HTTP_BASE_URL:-http://127.0.0.1:8000/api/v1}/services/aigc/text-generation/generation" \
-H "Authorization: Bearer $DASHSCOPE_API_KEY" \
-H "Content-Type: application/json" \
-d '{
    "model": "qwen3-coder-plus",
    "input":{
        "messages":[{
            "role": "user",
            "content": "Help me write a Python script to generate prime numbers up to 100. Do not output non-code content or Markdown code blocks."
        },
        {
            "role": "assistant",
            "content": "def generate_prime_number",
            "partial": true
        }]
    },
    "parameters": {
        "result_format": "message"
    }
}'
