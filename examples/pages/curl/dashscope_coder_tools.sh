#!/bin/sh
# Tool calling over the native DashScope API, its first step: the model says which tool it wants to call.

curl --location "${DASHSCOPE_HTTP_BASE_URL:-http://127.0.0.1:8000/api/v1}/services/aigc/text-generation/generation" \
--header "Authorization: Bearer $DASHSCOPE_API_KEY" \
--header "Content-Type: application/json" \
--data '{
    "model": "qwen3-coder-plus",
    "input": {
        "messages": [{
            "role": "user",
            "content": "Write a Python script for quick sort and name it quick_sort.py."
        }]
    },
    "parameters": {
        "result_format": "message",
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
    }
}'
