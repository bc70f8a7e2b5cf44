#!/bin/sh
# Text completion: the code that follows a prefix.

curl -X POST "${DASHSCOPE_BASE_URL:-http://127.0.0.1:8000/compatible-mode/v1}/completions" \
-H "Authorization: Bearer $DASHSCOPE_API_KEY" \
-H "Content-Type: application/json" \
-d '{
    "model": "qwen2.5-coder-32b-instruct",
    "prompt": "<|fim_prefix|>Write a Python quick sort function, def quick_sort(arr):<|fim_suffix|>"
}'
