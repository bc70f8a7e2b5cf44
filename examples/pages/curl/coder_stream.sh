#!/bin/sh
# Qwen-Coder, streamed; the last event before [DONE] holds the token counts.

curl -X POST "${DASHSCOPE_BASE_URL:-http://127.0.0.1:8000/compatible-mode/v1}/chat/completions" \
-H "Authorization: Bearer $DASHSCOPE_API_KEY" \
-H "Content-Type: application/json" \
--no-buffer \
-d '{
    "model": "qwen3-coder-plus",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Write a Python function named find_prime_numbers that accepts an integer n as a parameter and returns a list of all prime numbers less than n. Do not output any content other than the code and do not use Markdown code blocks."}
    ],
    "stream": true,
    "stream_options": {"include_usage": true}
}'
