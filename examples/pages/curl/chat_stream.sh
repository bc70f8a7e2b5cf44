#!/bin/sh
# Chat, streamed: one event for each chunk, then [DONE].

curl --location "${DASHSCOPE_BASE_URL:-http://127.0.0.1:8000/compatible-mode/v1}/chat/completions" \
--header "Authorization: Bearer $DASHSCOPE_API_KEY" \
--header 'Content-Type: application/json' \
--data '{
    "model": "qwen-plus",
    "messages": [
        {
            "role": "system",
            "content": "You are a helpful assistant."
        },
        {
            "role": "user",
            "content": "Who are you?"
        }
    ],
    "stream":true
}'
