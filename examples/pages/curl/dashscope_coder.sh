#!/bin/sh
# Qwen-Coder writes a function, over the native DashScope API.

curl -X POST "${DASHSCOPE_HTTP_BASE_URL:-http://127.0.0.1:8000/api/v1}/services/aigc/text-generation/generation" \
-H "Authorization: Bearer $DASHSCOPE_API_KEY" \
-H "Content-Type: application/json" \
-d '{
    "model": "qwen3-coder-plus",
    "input":{
        "messages":[
            {
                "role": "system",
                "content": "You are a helpful assistant."
            },
            {
                "role": "user",
                "content": "Write a Python function named find_prime_numbers that accepts an integer n as a parameter and returns a list of all prime numbers less than n. Do not output any content other than the code and do not use Markdown code blocks."
            }
        ]
    },
    "parameters": {
        "result_format": "message"
    }
}'
