#!/bin/sh
# Tool calling, its first step: the model says which tool it wants to call.

curl -X POST "${DASHSCOPE_BASE_URL:-http://127.0.0.1:8000/compatible-mode/v1}/chat/completions" \
-H "Authorization: Bearer $DASHSCOPE_API_KEY" \
-H "Content-Type: application/json" \
-d '{
    "model": "qwen3-coder-plus",
    "messages": [
        {
            "role": "user",
            "content": "Write a Python script for quick sort and name it quick_sort.py."
        }
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "write_file",
                "description": "Writes content to the specified file. If the file does not exist, it is created.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "path": {
                            "type": "string",
                            "description": "The relative or absolute path of the target file."
                        },
                        "content": {
                            "type": "string",
                            "description": "The string content to write to the file."
                        }
                    },
                    "required": ["path", "content"]
                }
            }
        }
    ]
}'
